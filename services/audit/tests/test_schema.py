"""The schema: append-only for every role, partitioned by month, closed between tenants."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from services.audit.models import Base
from services.audit.service.months import ensure_partition, make_months
from services.audit.tests.conftest import deliver, event, rows_of
from shared.migrations import drift
from shared.outbox_relay import plain_dsn
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def test_migrations_and_models_agree(database: Database, transactions: Transactions) -> None:
    await deliver(transactions, event())
    assert await drift(database.owner_url, Base.metadata) == []


_CHANGES = (
    "UPDATE audit_logs SET action = 'X'",
    "UPDATE audit_logs SET action = 'X' WHERE false",
    "DELETE FROM audit_logs",
    "TRUNCATE audit_logs",
)


@pytest.mark.parametrize("statement", _CHANGES)
@pytest.mark.parametrize("role", ["service", "owner", "superuser"])
async def test_no_role_changes_a_row(
    database: Database, transactions: Transactions, role: str, statement: str
) -> None:
    await deliver(transactions, event(time=datetime(2026, 11, 5, tzinfo=UTC)))
    before = await rows_of(database)
    urls = {
        "service": plain_dsn(database.url),
        "owner": plain_dsn(database.owner_url),
        "superuser": database.admin_url,
    }
    connection = await asyncpg.connect(urls[role])
    try:
        await connection.execute("SET carnet.scope = 'all'; SET search_path = audit")
        for table in ("audit_logs", "audit_logs_2026_11"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement.replace("audit_logs", table))
    finally:
        await connection.close()
    assert await rows_of(database) == before


async def test_the_service_reaches_rows_through_the_policy_alone(
    database: Database, transactions: Transactions
) -> None:
    moment = datetime(2026, 11, 5, tzinfo=UTC)
    await deliver(transactions, *(event(organization_id=o, time=moment) for o in (7, 8, None)))
    connection = await asyncpg.connect(plain_dsn(database.url))
    try:
        assert await connection.fetch("SELECT * FROM audit_logs") == []
        async with connection.transaction():
            await connection.execute("SET LOCAL carnet.organization_id = '7'")
            seen = await connection.fetch("SELECT organization_id FROM audit_logs")
        assert [row["organization_id"] for row in seen] == [7]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM audit_logs_2026_11")
    finally:
        await connection.close()


async def test_months_are_made_ahead_and_over_the_turn_of_the_year(
    database: Database, transactions: Transactions
) -> None:
    for _ in range(2):
        await make_months(transactions, datetime(2031, 11, 30, 23, 59, tzinfo=UTC))
    found = await database.rows(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'"
        " AND relname ~ '_203[12]_' ORDER BY 1"
    )
    names = [str(row["relname"]).removeprefix("audit_logs_") for row in found]
    assert names == ["2031_11", "2031_12", "2032_01", "2032_02"]


async def test_two_may_make_the_same_month(transactions: Transactions) -> None:
    month = datetime(2031, 5, 1, tzinfo=UTC)

    async def make() -> None:
        async with transactions.system() as session:
            await ensure_partition(session, month)

    async with transactions.system() as first:
        await ensure_partition(first, month)
        second = asyncio.ensure_future(make())
        await asyncio.sleep(0.3)
        assert not second.done()
    await second


@pytest.mark.parametrize("year", [1, 1969, 2026, 9998])
async def test_an_event_of_any_age_finds_its_place(
    database: Database, transactions: Transactions, year: int
) -> None:
    last = datetime(year, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    first = datetime(year, 12, 1, tzinfo=UTC)
    await deliver(transactions, event(time=last), event(time=first))
    assert [row["created_at"] for row in await rows_of(database)] == [last, first]
