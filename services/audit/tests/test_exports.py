"""An export's memory does not grow with its rows, and its reader may be slow."""

import asyncio
import tracemalloc

import pytest
from sqlalchemy import text

from services.audit.queries.audit_logs import Filters
from services.audit.schemas import ExportFormat
from services.audit.service.exports import stream_export
from services.audit.tests.volume import fill
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

FEW, MANY = 3_000, 15_000


async def _peak(transactions: Transactions, form: ExportFormat) -> tuple[int, int]:
    """Export everything and drop it; return how many lines there were and the peak in bytes."""
    lines = 0
    tracemalloc.start()
    try:
        async with transactions.system() as session:
            async for piece in stream_export(session, Filters(), form):
                lines += piece.count(b"\n")
        return lines, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", list(ExportFormat))
async def test_five_times_the_rows_take_the_same_memory(
    database: Database, transactions: Transactions, form: ExportFormat
) -> None:
    await fill(database, transactions, FEW)
    await _peak(transactions, form)  # what is made once: statements, types of columns
    few, peak_of_few = await _peak(transactions, form)
    await fill(database, transactions, MANY - FEW)
    many, peak_of_many = await _peak(transactions, form)
    assert few >= FEW
    assert many >= MANY
    assert peak_of_many < 1.25 * peak_of_few


async def test_a_reader_may_take_longer_than_a_transaction_may_rest(
    database: Database, transactions: Transactions
) -> None:
    await fill(database, transactions, FEW)
    async with transactions.system() as session:
        # In milliseconds: a minute as the roles have it.
        await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 50"))
        pieces = stream_export(session, Filters(), ExportFormat.NDJSON)
        lines = (await anext(pieces)).count(b"\n")
        await asyncio.sleep(0.5)
        lines += sum([piece.count(b"\n") async for piece in pieces])
    assert lines >= FEW
