"""The engine: what a request finds when the database server has been away."""

import asyncio
import socket

import pytest
from sqlalchemy import text

from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

AT_ONCE = 8
_TERMINATE = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def _ask(transactions: Transactions) -> int:
    async with transactions.system() as session:
        await session.execute(text("SELECT pg_sleep(0.05)"))  # so that each has a connection
        return int((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def test_no_request_fails_because_the_server_has_closed_the_connections(
    transactions: Transactions, database: Database
) -> None:
    before = set(await asyncio.gather(*(_ask(transactions) for _ in range(AT_ONCE))))
    [terminated] = await database.rows(_TERMINATE)
    assert terminated["count"] >= AT_ONCE == len(before)
    after = set(await asyncio.gather(*(_ask(transactions) for _ in range(AT_ONCE))))
    assert len(after) == AT_ONCE
    assert not before & after


async def test_statements_do_not_wait_for_a_server_whose_host_vanished(
    transactions: Transactions,
) -> None:
    async with transactions.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        link = raw.driver_connection._transport.get_extra_info("socket")
        assert link.family != socket.AF_UNIX
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000  # ms
