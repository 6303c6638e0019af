"""Copies a table in chunks: each is one transaction of rows, findings and progress together."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.upgrade.copy_step import CopyStep
from deploy.upgrade.progress import Told
from deploy.upgrade.targets import see_everything

CHUNK_ROWS = 50_000
_BUFFERS = 8
"""How many buffers of a few kilobytes wait between the two servers: what bounds the memory."""

_NEXT_CHUNK = """
    SELECT count(*) AS rows, min(id) AS first, max(id) AS last
    FROM (SELECT id FROM {table} WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) page
"""
_MARK = """
    INSERT INTO upgrade_steps (step, last_id, rows) VALUES ($1, $2, $3)
    ON CONFLICT (step) DO UPDATE SET last_id = excluded.last_id,
        rows = upgrade_steps.rows + excluded.rows
"""


@dataclass(frozen=True)
class Chunk:
    """Rows with ids from `first` to `last`."""

    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class Progress:
    """How far a step is: all up to `last_id` is done."""

    last_id: int = 0
    rows: int = 0
    finished: bool = False


async def progress_of(connection: Any, step: str) -> Progress:
    """Return how far a step is."""
    row = await connection.fetchrow(
        "SELECT last_id, rows, finished_at IS NOT NULL AS finished FROM upgrade_steps"
        " WHERE step = $1",
        step,
    )
    return Progress(**row) if row else Progress()


async def mark(connection: Any, step: str, last_id: int, rows: int) -> None:
    """Note progress, in the transaction of what was done."""
    await connection.execute(_MARK, step, last_id, rows)


async def mark_finished(connection: Any, step: str) -> None:
    """Note that a step is done, in the transaction of its end."""
    await connection.execute(
        "INSERT INTO upgrade_steps (step, finished_at) VALUES ($1, now())"
        " ON CONFLICT (step) DO UPDATE SET finished_at = now()",
        step,
    )


async def chunks(
    connection: Any, table: str, after: int, through: int, size: int
) -> AsyncIterator[Chunk]:
    """Yield a table's ids in order, by keys and never by offset, so that holes cost nothing."""
    while True:
        row = await connection.fetchrow(_NEXT_CHUNK.format(table=table), after, through, size)
        if not row["rows"]:
            return
        yield Chunk(**row)
        after = row["last"]


async def copy(
    step: CopyStep, origin: Any, lanes: Sequence[Any], through: int, told: Told, *, size: int
) -> None:
    """Copy what is left of a table, from where the last chunk ended.

    `lanes` are connections to the target, which chunks take in turn: while one chunk is converted
    the next one is read. They are converted and committed strictly one after the other.
    """
    done = await progress_of(lanes[0], step.name)
    if done.finished:
        return
    table = f"public.{step.counted}" if step.read_from == "source" else step.counted
    turns = itertools.cycle(enumerate(lanes))
    async with asyncio.TaskGroup() as group:
        before = group.create_task(asyncio.sleep(0))
        async for chunk in chunks(origin, table, done.last_id, through, size):
            lane = _Lane(step, *next(turns))
            await lane.read(origin, chunk)
            await before
            before = group.create_task(lane.write(chunk, told))
    await mark_finished(lanes[0], step.name)


class _Lane:
    """A connection to the target with a staging table of its own, and its open transaction."""

    def __init__(self, step: CopyStep, number: int, connection: Any) -> None:
        self._step = step
        self._number = number
        self._connection = connection
        self._transaction = connection.transaction()

    async def read(self, origin: Any, chunk: Chunk) -> None:
        """Begin the chunk's transaction with its rows as version 1 has them."""
        await self._transaction.start()
        await see_everything(self._connection)
        ids = (chunk.first, chunk.last)
        staging, columns = self._step.staging_table(self._number), list(self._step.staging)
        await stream(origin, self._step.extract, ids, self._connection, staging, columns)

    async def write(self, chunk: Chunk, told: Told) -> None:
        """Make version 2's rows of them, note findings and progress, and commit."""
        for statement in self._step.statements(self._number):
            await self._connection.execute(statement)
        await mark(self._connection, self._step.name, chunk.last, chunk.rows)
        await self._connection.execute(f"TRUNCATE {self._step.staging_table(self._number)}")
        await self._transaction.commit()
        told.advance(chunk.rows)


async def stream(
    origin: Any,
    query: str,
    arguments: tuple[Any, ...],
    target: Any,
    table: str,
    columns: list[str],
) -> None:
    """Pass the rows of a query into a table as they are, in PostgreSQL's binary form.

    Neither side gets ahead of the other by more than a few buffers, however wide the rows are.
    """
    buffers: asyncio.Queue[bytes | None] = asyncio.Queue(_BUFFERS)

    async def read() -> None:
        await origin.copy_from_query(query, *arguments, output=buffers.put, format="binary")
        await buffers.put(None)

    async def arriving() -> AsyncIterator[bytes]:
        while (buffer := await buffers.get()) is not None:
            yield buffer

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        group.create_task(
            target.copy_to_table(table, source=arriving(), columns=columns, format="binary")
        )
