"""Each service's role can use its own schema alone: the server refuses the rest."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from shared.provisioning import database_url, provision
from shared.testing import SERVICES, new_database

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def admin_url() -> Iterator[str]:
    with new_database(f"test_provisioning_{os.getpid()}") as url:
        asyncio.run(_provision_all(url))
        yield url


async def _provision_all(url: str) -> None:
    # At once and twice: operators repeat commands, and five services migrate side by side.
    for _ in range(2):
        await asyncio.gather(
            *(provision(url, s, password="test", owner_password="test") for s in SERVICES)
        )
    for service in SERVICES:
        owner = await asyncpg.connect(database_url(url, f"{service}_owner", "test"))
        try:
            await owner.execute("CREATE TABLE IF NOT EXISTS kept (id bigint)")
        finally:
            await owner.close()


@pytest.fixture(params=SERVICES)
async def own(request: pytest.FixtureRequest, admin_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url(admin_url, request.param, "test"))
    yield connection
    await connection.close()


async def test_a_role_uses_its_own_schema(own: asyncpg.Connection) -> None:
    await own.execute("INSERT INTO kept VALUES (1); UPDATE kept SET id = 2; DELETE FROM kept")
    assert await own.fetch("SELECT * FROM kept") == []
    assert await own.fetchval("SELECT current_schema()") == await own.fetchval("SELECT user")


@pytest.mark.parametrize("other", SERVICES)
async def test_a_role_is_refused_everywhere_else(own: asyncpg.Connection, other: str) -> None:
    if other == await own.fetchval("SELECT user"):
        other = "public"
    for statement in (
        f"SELECT * FROM {other}.kept",
        f"INSERT INTO {other}.kept VALUES (1)",
        f"CREATE TABLE {other}.mine (id bigint)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id bigint)",
        "DROP TABLE kept",
        "TRUNCATE kept",
        "ALTER TABLE kept ADD COLUMN name text",
        "CREATE SCHEMA mine",
        "CREATE ROLE somebody",
        "CREATE TEMPORARY TABLE mine (id bigint)",
        "SET ROLE postgres",
    ],
)
async def test_a_role_owns_nothing(own: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await own.execute(statement)


async def test_the_server_notices_a_host_that_vanished(own: asyncpg.Connection) -> None:
    shown = {
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }
    # The server shows what the socket has: nothing can be asked of a local one.
    if await own.fetchval("SELECT inet_server_addr()") is not None:
        assert {name: await own.fetchval(f"SHOW {name}") for name in shown} == shown


async def test_a_stalled_process_loses_its_transaction(own: asyncpg.Connection) -> None:
    assert await own.fetchval("SHOW idle_in_transaction_session_timeout") == "1min"


async def test_an_owner_reaches_no_other_schema(admin_url: str) -> None:
    owner = await asyncpg.connect(database_url(admin_url, "vouchers_owner", "test"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.fetch("SELECT * FROM payments.kept")
    finally:
        await owner.close()
