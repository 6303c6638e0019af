"""Transactions begin together with their tenant, and never with another's."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncpg import ReadOnlySQLTransactionError
from asyncpg.connection import LoggedQuery
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shared.connections import TenantConnection, execute_early, fetch
from shared.db import make_engine
from shared.settings import asyncpg_url
from shared.tenancy import EVERYTHING, NOTHING, Tenant, limit_to, see_all_tenants
from shared.testing import Database

pytestmark = pytest.mark.anyio

SETTINGS = text(
    "SELECT current_setting('carnet.scope', true), current_setting('carnet.organization_id', true),"
    " current_setting('carnet.user_id', true)"
)


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection, so that every session uses the same."""
    engine = make_engine(asyncpg_url(database.url), pool_size=1)
    yield engine
    await engine.dispose()


async def settings_of(session: AsyncSession) -> tuple[str | None, ...]:
    return tuple((await session.execute(SETTINGS)).one())


async def driver_of(session: AsyncSession) -> TenantConnection:
    connection = await (await session.connection()).get_raw_connection()
    driver = connection.driver_connection
    assert isinstance(driver, TenantConnection)
    return driver


async def test_the_tenant_is_sent_with_begin(engine: AsyncEngine) -> None:
    queries: list[str] = []

    def log(query: LoggedQuery) -> None:
        queries.append(query.query)

    async with AsyncSession(engine) as session:
        (await driver_of(session)).add_query_logger(log)
        await limit_to(session, Tenant(7, 70))
        assert await settings_of(session) == ("tenant", "7", "70")
        await session.commit()
    # The driver logs what it sends without preparing it first.
    begin, commit = queries
    assert begin == f"BEGIN;{Tenant(7, 70).statement()}"
    assert commit == "COMMIT"


LOCKS = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")


def lock(number: int) -> str:
    return f"SELECT pg_advisory_xact_lock({number})"


async def test_early_statements_are_sent_with_begin(engine: AsyncEngine) -> None:
    queries: list[str] = []
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7))
        await execute_early(session, lock(1))
        await execute_early(session, lock(2))
        (await driver_of(session)).add_query_logger(lambda query: queries.append(query.query))
        assert await session.scalar(LOCKS) == 2
        await execute_early(session, lock(3))
        assert await session.scalar(LOCKS) == 3
        await session.commit()
        assert await session.scalar(LOCKS) == 0
    assert queries[0] == f"BEGIN;{Tenant(7).statement()};{lock(1)};{lock(2)}"


async def test_a_tenant_that_changes_does_not_remove_an_early_statement(
    engine: AsyncEngine,
) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7))
        await execute_early(session, lock(1))
        await session.connection()
        await limit_to(session, EVERYTHING)
        assert (await settings_of(session))[0] == "all"
        assert await session.scalar(LOCKS) == 1


@pytest.mark.parametrize("with_tenant", [True, False])
async def test_an_early_statement_that_fails_leaves_no_transaction(
    engine: AsyncEngine, with_tenant: bool
) -> None:
    for _ in range(2):
        async with AsyncSession(engine) as session:
            if with_tenant:
                await limit_to(session, Tenant(7))
            await execute_early(session, "SELECT 1 / 0")
            with pytest.raises(DBAPIError, match="division by zero"):
                await fetch(session, "SELECT 1")
        async with AsyncSession(engine) as session:
            assert not (await driver_of(session)).is_in_transaction()
            assert await session.scalar(text("SELECT 1")) == 1


async def test_every_transaction_of_a_session_has_the_tenant(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7, 70))
        for _ in range(3):
            assert await settings_of(session) == ("tenant", "7", "70")
            await session.rollback()


async def test_the_tenant_can_change_before_and_within_a_transaction(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, NOTHING)
        await see_all_tenants(session)
        assert await settings_of(session) == ("all", "", "")
        await limit_to(session, Tenant(8))
        assert await settings_of(session) == ("tenant", "8", "")


async def test_a_tenant_that_is_applied_already_costs_no_statement(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7))
        assert await settings_of(session) == ("tenant", "7", "")
        queries: list[str] = []
        (await driver_of(session)).add_query_logger(lambda query: queries.append(query.query))
        await limit_to(session, Tenant(7))
        async with session.begin_nested():
            await limit_to(session, Tenant(7))
            await session.connection()
    assert not [query for query in queries if "set_config" in query]


async def test_a_tenant_of_a_savepoint_that_is_rolled_back_is_applied_again(
    engine: AsyncEngine,
) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7))
        assert await settings_of(session) == ("tenant", "7", "")
        async with session.begin_nested() as savepoint:
            await limit_to(session, Tenant(8))
            assert await settings_of(session) == ("tenant", "8", "")
            await savepoint.rollback()
        assert await settings_of(session) == ("tenant", "7", "")
        await limit_to(session, Tenant(8))
        assert await settings_of(session) == ("tenant", "8", "")


async def test_a_tenant_without_a_statement_leaves_nothing_behind(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, EVERYTHING)
        await session.connection()
    async with AsyncSession(engine) as session:
        assert not any(await settings_of(session))


async def test_settings_end_with_their_transaction(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7, 70))
        await settings_of(session)
        await session.commit()
    async with engine.connect() as connection:
        assert not any((await connection.execute(SETTINGS)).one())


async def test_options_of_a_transaction_are_kept(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await limit_to(session, Tenant(7))
        options: dict[str, Any] = {
            "isolation_level": "REPEATABLE READ",
            "postgresql_readonly": True,
        }
        await session.connection(execution_options=options)
        assert await settings_of(session) == ("tenant", "7", "")
        level = await session.scalar(text("SHOW transaction_isolation"))
        assert level == "repeatable read"
        with pytest.raises(DBAPIError) as refusal:
            await session.execute(text("CREATE TABLE written (id int)"))
        assert isinstance(refusal.value.orig.__cause__, ReadOnlySQLTransactionError)  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["7'; DROP TABLE things; --", 1.5j, object()])
def test_a_tenant_is_made_of_numbers(number: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Tenant(organization_id=number).statement()
