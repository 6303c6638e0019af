"""Copies a table in chunks: each is one transaction of rows and progress together."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.upgrade.rows.copy_step import FINDING_COLUMNS, CopyStep
from deploy.upgrade.run.progress import TableProgress
from deploy.upgrade.run.sql_literals import id_array

CHUNK_ROWS = 100_000
BEFORE_THE_FIRST_ID = -(2**31) - 1
"""Version 1's ids are integers that its server counts up from 1: nothing forbids others."""

_BUFFERS = 8
"""How many buffers of a few kilobytes wait between the two servers: what bounds the memory."""

# By keys and never by offset, so that holes cost nothing.
_END_OF_CHUNK = """
    SELECT max(id) FROM (
        SELECT id FROM {table} WHERE id > $1::bigint AND id <= $2::bigint
        ORDER BY id LIMIT $3
    ) chunk
"""
_MARK = """
    INSERT INTO upgrade_steps (step, last_id, rows) VALUES ($1, $2, $3)
    ON CONFLICT (step) DO UPDATE SET last_id = excluded.last_id,
        rows = upgrade_steps.rows + excluded.rows
"""


@dataclass(frozen=True)
class StepProgress:
    """How far a step is: all up to `last_id` is done."""

    last_id: int = BEFORE_THE_FIRST_ID
    rows: int = 0
    finished: bool = False


async def progress_of(connection: Any, step: str) -> StepProgress:
    """Return how far a step is."""
    row = await connection.fetchrow(
        "SELECT last_id, rows, finished_at IS NOT NULL AS finished FROM upgrade_steps"
        " WHERE step = $1",
        step,
    )
    return StepProgress(**row) if row else StepProgress()


async def mark_finished(connection: Any, step: str) -> None:
    """Note that a step is done, in the transaction of its end."""
    await connection.execute(
        "INSERT INTO upgrade_steps (step, last_id, finished_at) VALUES ($1, 0, now())"
        " ON CONFLICT (step) DO UPDATE SET finished_at = now()",
        step,
    )


async def ends_of_chunks(
    connection: Any, table: str, after: int, through: int, size: int
) -> AsyncIterator[tuple[int, int]]:
    """Yield, in order, ranges of ids that hold so many rows of a table; its last may hold fewer."""
    query = _END_OF_CHUNK.format(table=table)
    while (last := await connection.fetchval(query, after, through, size)) is not None:
        yield after + 1, last
        after = last


async def copy_table(
    step: CopyStep,
    values: Mapping[str, str],
    set_aside: Sequence[int],
    origin: Any,
    target: Any,
    through: int,
    counting: TableProgress,
    *,
    size: int,
) -> None:
    """Copy what is left of a table, from where the last chunk ended."""
    done = await progress_of(target, step.name)
    if done.finished:
        return
    given = done.rows
    table = f"public.{step.ids_of}"
    async for first, last in ends_of_chunks(origin, table, done.last_id, through, size):
        # A long list of ids in each chunk's statement would be looked through for every row.
        here = [id_ for id_ in set_aside if first <= id_ <= last]
        query = step.extract({**values, "set_aside": id_array(here), "given": str(given)})
        async with target.transaction():
            columns = list(step.columns)
            copied = await stream_rows(origin, query, (first, last), target, step.table, columns)
            await target.execute(_MARK, step.name, last, copied)
        given += copied
        counting.advance(copied)
    await mark_finished(target, step.name)


async def record_findings(
    step: CopyStep, values: Mapping[str, str], origin: Any, target: Any
) -> None:
    """Note what is changed or set aside of a table, once, in one transaction."""
    name = f"findings of {step.name}"
    if not step.findings or (await progress_of(target, name)).finished:
        return
    async with target.transaction():
        columns = list(FINDING_COLUMNS)
        await stream_rows(origin, step.find(values), (), target, "upgrade_findings", columns)
        await mark_finished(target, name)


async def stream_rows(
    origin: Any,
    query: str,
    arguments: tuple[Any, ...],
    target: Any,
    table: str,
    columns: Sequence[str],
) -> int:
    """Pass the rows of a query into a table as they are, in PostgreSQL's binary form; count them.

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
        writing = group.create_task(
            target.copy_to_table(table, source=arriving(), columns=columns, format="binary")
        )
    return int(writing.result().rpartition(" ")[2])
