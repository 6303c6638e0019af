"""The engine: what a request finds when the database server has been away."""

import asyncio
import socket
from datetime import UTC, date, datetime, timedelta, timezone

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


MOMENTS = {
    "infinity": (date(8999, 12, 31), datetime(8999, 12, 31, 23, 59, 59, 999999, UTC)),
    "-infinity": (date(1000, 1, 1), datetime(1000, 1, 1, tzinfo=UTC)),
    "20224-06-30": (date(8999, 12, 31), datetime(8999, 12, 31, 23, 59, 59, 999999, UTC)),
    "0044-03-15 BC": (date(1000, 1, 1), datetime(1000, 1, 1, tzinfo=UTC)),
    "9999-12-31": (date(9999, 12, 31), datetime(9999, 12, 31, tzinfo=UTC)),
    "0001-01-01": (date(1, 1, 1), datetime(1, 1, 1, tzinfo=UTC)),
    "1999-12-31": (date(1999, 12, 31), datetime(1999, 12, 31, tzinfo=UTC)),
}


@pytest.mark.parametrize("written", MOMENTS)
async def test_every_day_and_instant_of_the_database_is_read(
    transactions: Transactions, written: str
) -> None:
    query = f"SELECT date '{written}', timestamptz '{written}', ARRAY[date '{written}']"
    async with transactions.system() as session:
        day, instant, days = (await session.execute(text(query))).one()
    assert (day, instant) == MOMENTS[written]
    assert days == [day]


async def test_days_and_instants_arrive_as_they_were_sent(transactions: Transactions) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    instant = datetime(2026, 3, 29, 2, 30, 0, 123457, tzinfo=zone)
    for sent in (instant, datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, tzinfo=UTC)):
        async with transactions.system() as session:
            query = text("SELECT CAST(:day AS date), CAST(:instant AS timestamptz)")
            row = await session.execute(query, {"day": sent.date(), "instant": sent})
            assert tuple(row.one()) == (sent.date(), sent)
