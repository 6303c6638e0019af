"""Queries of the months of the trail, each a partition of its table.

Names of partitions come from the database itself, never from a client.
"""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.queries.rows import CHUNK, COLUMNS, Row

_LIST = text(
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
    " WHERE inhparent = 'audit_logs'::regclass ORDER BY 1"
)
_PIECES = """
    SELECT coalesce(organization_id, 0) AS organization_id,
        min(position) AS first_position, max(position) AS last_position,
        (array_agg(previous_hash ORDER BY position))[1] AS previous_hash,
        (array_agg(hash ORDER BY position DESC))[1] AS last_hash
    FROM (
        SELECT *, position - row_number() OVER (PARTITION BY organization_id ORDER BY position)
            AS island FROM {partition}
    ) AS rows
    GROUP BY organization_id, island ORDER BY 1, 2
"""
_NAMES = ", ".join(column.name for column in COLUMNS)


async def list_partitions(session: AsyncSession) -> Sequence[str]:
    """Return the names of the partitions that exist, as PostgreSQL writes them."""
    return (await session.scalars(_LIST)).all()


async def has_rows(session: AsyncSession, partition: str) -> bool:
    """Return whether a partition holds a row."""
    statement = text(f"SELECT EXISTS (SELECT FROM {partition})")  # noqa: S608
    return bool(await session.scalar(statement))


async def stream_partition(session: AsyncSession, partition: str) -> AsyncIterator[Sequence[Row]]:
    """Yield the rows of a partition by the thousand, in the order of their ids."""
    # A cursor of the driver would stay open until the transaction ends, and prevent DROP TABLE.
    await session.execute(
        text(
            f"DECLARE leaving NO SCROLL CURSOR FOR SELECT {_NAMES} FROM {partition} ORDER BY id"  # noqa: S608
        )
    )
    fetch = text(f"FETCH {CHUNK} FROM leaving").columns(*COLUMNS)
    while rows := (await session.execute(fetch)).mappings().all():
        yield rows
    await session.execute(text("CLOSE leaving"))


async def pieces_of_partition(session: AsyncSession, partition: str) -> Sequence[Row]:
    """Return the pieces of chains in a partition, each as the columns of an ArchivedRange."""
    statement = text(_PIECES.format(partition=partition))
    return (await session.execute(statement)).mappings().all()
