"""Copies a table in chunks. A chunk's rows and its progress are one transaction."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.upgrade.rows.copy_step import FINDING_COLUMNS, CopyStep
from deploy.upgrade.run.progress import TableProgress
from deploy.upgrade.run.sql_literals import id_array

CHUNK_ROWS = 100_000
BEFORE_THE_FIRST_ID = -(2**31) - 1
"""Version 1's ids are 32-bit integers; usually they begin at 1, but any value is allowed."""

_BUFFERS = 8
"""How many buffers of a few kilobytes wait between the two servers. This bounds the memory."""

# By id and not by offset, so that gaps between ids cost nothing.
_END_OF_CHUNK = """
    SELECT max(id) FROM (
        SELECT id FROM {table} WHERE id > $1::bigint AND id <= $2::bigint
        ORDER BY id LIMIT $3
    ) chunk
"""
_RECORD_PROGRESS = """
    INSERT INTO upgrade_steps (step, last_id, rows) VALUES ($1, $2, $3)
    ON CONFLICT (step) DO UPDATE SET last_id = excluded.last_id,
        rows = upgrade_steps.rows + excluded.rows
"""


@dataclass(frozen=True)
class StepProgress:
    """The progress of a step: all rows up to `last_id` are copied."""

    last_id: int = BEFORE_THE_FIRST_ID
    rows: int = 0
    finished: bool = False


async def progress_of(connection: Any, step: str) -> StepProgress:
    """Return the progress of a step."""
    row = await connection.fetchrow(
        "SELECT last_id, rows, finished_at IS NOT NULL AS finished FROM upgrade_steps"
        " WHERE step = $1",
        step,
    )
    return StepProgress(**row) if row else StepProgress()


async def mark_finished(connection: Any, step: str) -> None:
    """Record in the current transaction that a step is finished."""
    await connection.execute(
        "INSERT INTO upgrade_steps (step, last_id, finished_at) VALUES ($1, 0, now())"
        " ON CONFLICT (step) DO UPDATE SET finished_at = now()",
        step,
    )


async def ends_of_chunks(
    connection: Any, table: str, after: int, through: int, size: int
) -> AsyncIterator[tuple[int, int]]:
    """Yield, in order, ranges of ids with `size` rows of a table each; the last may have fewer."""
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
    display: TableProgress,
    *,
    size: int,
) -> None:
    """Copy the rows of a table that follow the last copied chunk."""
    progress = await progress_of(target, step.name)
    if progress.finished:
        return
    rows_written = progress.rows
    table = f"public.{step.ids_of}"
    async for first, last in ends_of_chunks(origin, table, progress.last_id, through, size):
        # The server searches the list for every row, so it contains only the ids of the chunk.
        ids = id_array([id_ for id_ in set_aside if first <= id_ <= last])
        query = step.extract({**values, "set_aside": ids, "written": str(rows_written)})
        async with target.transaction():
            columns = list(step.columns)
            rows = await stream_rows(origin, query, (first, last), target, step.table, columns)
            await target.execute(_RECORD_PROGRESS, step.name, last, rows)
        rows_written += rows
        display.advance(rows)
    await mark_finished(target, step.name)


async def record_findings(
    step: CopyStep, values: Mapping[str, str], origin: Any, target: Any
) -> None:
    """Record the rows of a table that are changed or set aside, once, in one transaction."""
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
    """Copy the rows of a query into a table in PostgreSQL's binary form; return their number.

    The reader is at most a few buffers ahead of the writer, so memory does not depend on the rows.
    """
    buffers: asyncio.Queue[bytes | None] = asyncio.Queue(_BUFFERS)

    async def read() -> None:
        await origin.copy_from_query(query, *arguments, output=buffers.put, format="binary")
        await buffers.put(None)

    async def chunks() -> AsyncIterator[bytes]:
        while (buffer := await buffers.get()) is not None:
            yield buffer

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        writing = group.create_task(
            target.copy_to_table(table, source=chunks(), columns=columns, format="binary")
        )
    return int(writing.result().rpartition(" ")[2])
