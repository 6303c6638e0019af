"""A deep page costs as much as the first one: the plans read an index from the cursor on."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import Request, Response
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.schemas.vouchers import VoucherRead
from services.vouchers.tests.outside import CLIENT, ORGANIZATION
from services.vouchers.tests.people import People, new_voucher
from shared.context import system_origin
from shared.paging import Page
from shared.reads import PreparedRead, Reader
from shared.tenancy import Tenant
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ROWS = 20_000


@pytest.fixture
async def full(client: httpx.AsyncClient, people: People, database: Database) -> Database:
    """A database with many vouchers of many organizations and clients."""
    voucher = await new_voucher(client, people)
    same = [
        name
        for name in VoucherRead.model_fields
        if name not in ("id", "organization_id", "client_id", "voucher_type_id", "status")
        and not name.endswith("_left")
    ]
    columns = ", ".join(same)
    async with database.admin() as connection:
        await connection.execute(
            f"INSERT INTO vouchers (organization_id, client_id, status, {columns})"
            f" SELECT {ORGANIZATION} + n % 5, {CLIENT} + n % 2,"
            f" (ARRAY['active', 'cancelled', 'expired'])[1 + n % 3], {columns}"
            f" FROM vouchers, generate_series(1, {ROWS}) AS n WHERE id = $1",
            voucher["id"],
        )
        await connection.execute("ANALYZE vouchers")
    return database


@pytest.fixture
async def session(full: Database, transactions: Transactions) -> AsyncIterator[AsyncSession]:
    tenant = Tenant(ORGANIZATION, CLIENT)
    async with transactions.begin(system_origin(), tenant) as session:
        yield session


async def _deep_page(database: Database) -> Page:
    [middle] = await database.rows("SELECT min(id) + (max(id) - min(id)) / 2 AS id FROM vouchers")
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    return Page(50, (middle["id"],), Request(scope | {"server": ("test", 80)}), Response())


async def _plan_of_last(session: AsyncSession, statements: list[Any]) -> dict[str, Any]:
    connection = await session.connection()
    statement, parameters = statements[-1]
    result = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
    shown = result.scalar_one()
    plans: list[dict[str, Any]] = json.loads(shown) if isinstance(shown, str) else shown
    plan: dict[str, Any] = plans[0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]


def _require_keyset(plan: dict[str, Any]) -> None:
    nodes = _nodes(plan)
    assert not [node for node in nodes if "Sort" in node["Node Type"]], plan
    [scan] = [node for node in nodes if node.get("Relation Name") == "vouchers"]
    assert scan["Node Type"].startswith("Index"), plan
    assert "id <" in scan["Index Cond"], "the scan begins at the cursor"


@pytest.fixture
def statements(transactions: Transactions) -> list[Any]:
    """The statements that were executed, with their parameters."""
    seen: list[Any] = []

    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, parameters))

    event.listen(transactions.engine.sync_engine, "before_cursor_execute", note)
    return seen


class _PlanReader(Reader):
    """Reads the plan of each statement instead of its rows."""

    plan: dict[str, Any]

    async def fetch(self, statement: PreparedRead, values: Mapping[str, Any]) -> Sequence[Any]:
        explained = replace(statement, sql=f"EXPLAIN (FORMAT JSON) {statement.sql}")
        [[plans]] = await super().fetch(explained, values)
        self.plan = plans[0]["Plan"]
        return []


@pytest.mark.parametrize("filters", [{}, {"status": "active"}, {"client_id": CLIENT}])
async def test_the_organizations_list_begins_at_its_cursor(
    transactions: Transactions, full: Database, filters: dict[str, Any]
) -> None:
    page = await _deep_page(full)
    reader = _PlanReader(transactions.engine, Tenant(ORGANIZATION))
    await queries.page_of_vouchers(reader, page, ORGANIZATION, queries.VoucherFilters(**filters))
    _require_keyset(reader.plan)


async def test_ones_own_list_begins_at_its_cursor(
    session: AsyncSession, full: Database, statements: list[Any]
) -> None:
    page = await _deep_page(full)
    assert await queries.page_of_own_vouchers(session, page, CLIENT, status=None)
    _require_keyset(await _plan_of_last(session, statements))
