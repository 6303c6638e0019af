"""A deep page costs what the first one costs: plans read an index from where the cursor is."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Request, Response
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.queries.audit_logs import Filters
from services.audit.tests.volume import MONTHS, fill
from shared.context import system_origin
from shared.paging import Page
from shared.tenancy import EVERYTHING, Tenant
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ROWS = 20_000
PASSED_OVER = "audit_logs_2026_07"
"""The month that lies before the cursor: a deep page does not even open it."""


@pytest.fixture
async def full(database: Database, transactions: Transactions) -> Database:
    await fill(database, transactions, ROWS)
    return database


@pytest.fixture(params=[Tenant(7, 2), EVERYTHING], ids=["owner", "admin"])
async def session(
    request: pytest.FixtureRequest, full: Database, transactions: Transactions
) -> AsyncIterator[AsyncSession]:
    async with transactions.begin(system_origin(), request.param) as session:
        yield session


@pytest.fixture
def statements(transactions: Transactions) -> list[Any]:
    """The statements that were executed, with their parameters."""
    seen: list[Any] = []

    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, parameters))

    event.listen(transactions.engine.sync_engine, "before_cursor_execute", note)
    return seen


def _page_in_the_middle_of_june() -> Page:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    after = (int(MONTHS[1].timestamp() * 1_000_000), 1)
    return Page(50, after, Request(scope | {"server": ("test", 80)}), Response())


async def _explained(session: AsyncSession, statements: list[Any]) -> dict[str, Any]:
    """Return the plan that the last statement took, with what it really read."""
    connection = await session.connection()
    statement, parameters = statements[-1]
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    shown = (await connection.exec_driver_sql(explain, parameters)).scalar_one()
    plan: dict[str, Any] = (json.loads(shown) if isinstance(shown, str) else shown)[0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"user_id": 1},
        {"entity_type": "voucher_type", "entity_id": 1},
        {"action": "UPDATE"},
    ],
    ids=str,
)
async def test_a_page_reads_little_more_than_it_shows(
    session: AsyncSession, statements: list[Any], filters: dict[str, Any]
) -> None:
    wanted = Filters(organization_id=7, **filters)
    assert len(await queries.page_of_rows(session, _page_in_the_middle_of_june(), wanted)) == 50
    plan = await _explained(session, statements)
    nodes = _nodes(plan)
    assert not [node for node in nodes if "Sort" in node["Node Type"]], plan
    scans = [node for node in nodes if node.get("Relation Name")]
    assert PASSED_OVER not in {scan["Relation Name"] for scan in scans}, plan
    for scan in scans:
        assert scan["Node Type"] in ("Index Scan", "Index Only Scan"), plan
        read = scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)
        assert read <= 400, plan
