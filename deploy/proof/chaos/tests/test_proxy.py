"""The proxy does what networks do, at the moment it is asked to."""

import asyncio
import gc
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.proof.chaos.proxy import Proxy
from shared.testing import Database, service_database

pytestmark = pytest.mark.anyio

session_database = service_database("services.audit")

INSERT = "INSERT INTO outbox (event_id, type, body, created_at) VALUES ('x', 'x', '{}', now())"


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[Proxy]:
    async with Proxy().running() as proxy:
        proxy.target = urlsplit(database.url.get_secret_value()).port or 5432
        yield proxy


async def _connect(database: Database, proxy: Proxy) -> asyncpg.Connection:
    url = database.url.get_secret_value().replace(f"127.0.0.1:{proxy.target}", proxy.address)
    return await asyncpg.connect(url.replace("+asyncpg", ""), timeout=10)


async def test_a_commit_whose_answer_is_cut_off_has_happened(
    database: Database, proxy: Proxy
) -> None:
    connection = await _connect(database, proxy)
    proxy.cut_commits(1)
    with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
        async with connection.transaction():
            await connection.execute(INSERT)
    assert proxy.commits_cut == 1
    assert len(await database.rows("SELECT * FROM outbox")) == 1
    again = await _connect(database, proxy)
    async with again.transaction():
        await again.execute(INSERT)
    await again.close()
    assert len(await database.rows("SELECT * FROM outbox")) == 2


async def test_nothing_passes_while_it_is_frozen(database: Database, proxy: Proxy) -> None:
    connection = await _connect(database, proxy)
    with proxy.frozen():
        asked = asyncio.ensure_future(connection.fetchval("SELECT 42"))
        done, _ = await asyncio.wait({asked}, timeout=0.5)
        assert not done
    assert await asked == 42
    await connection.close()


async def test_cutting_ends_every_connection(database: Database, proxy: Proxy) -> None:
    connections = [await _connect(database, proxy) for _ in range(3)]
    assert proxy.cut() == 3
    for connection in connections:
        with pytest.raises((ConnectionError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")


async def test_a_connection_that_is_cut_twice_is_closed(database: Database, proxy: Proxy) -> None:
    """A connection that stays open warns when it is collected, which fails any later test."""
    connections = [await _connect(database, proxy) for _ in range(3)]
    proxy.cut()
    await asyncio.sleep(0)
    proxy.cut()
    for connection in connections:
        with pytest.raises((ConnectionError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")
    del connections, connection
    gc.collect()
