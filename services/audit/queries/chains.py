"""Queries of chains: their heads, their rows in order, and where they end."""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.evidence.chain import GENESIS, ChainEnd, Head
from services.audit.models import NO_ORGANIZATION, AuditLog, ChainHead
from services.audit.queries.rows import CHUNK, COLUMNS, Row
from shared.connections import fetch

# Always in the same order: two batches that lock the same heads would deadlock otherwise.
LOCK_HEADS = (
    "SELECT organization_id, position, hash FROM chain_heads"
    " WHERE organization_id = ANY({chains}::bigint[]) ORDER BY organization_id FOR UPDATE"
)


async def end_of_chain(session: AsyncSession, chain: int, organization_id: int | None) -> ChainEnd:
    """Return the end of a chain: its head and its newest row, read in one statement."""
    newest = select(func.max(AuditLog.position)).where(_of(organization_id)).scalar_subquery()
    head = select(ChainHead).where(ChainHead.organization_id == chain).subquery()
    statement = select(head.c.position, head.c.hash, newest).select_from(
        select(1).subquery().outerjoin(head, true())
    )
    position, hash_, newest_row = (await session.execute(statement)).one()
    return ChainEnd(position or 0, hash_ or GENESIS, newest_row or 0)


def _of(organization_id: int | None) -> ColumnElement[bool]:
    if organization_id is None:
        return AuditLog.organization_id.is_(None)
    return AuditLog.organization_id == organization_id


async def list_chains(session: AsyncSession) -> list[int | None]:
    """Return the organizations that have a chain; None is the chain of rows without one."""
    heads = select(ChainHead.organization_id)
    # A chain whose head was deleted must be verified, too.
    rows = select(func.coalesce(AuditLog.organization_id, NO_ORGANIZATION))
    chains = await session.scalars(heads.union(rows.distinct()))
    return [id_ if id_ != NO_ORGANIZATION else None for id_ in sorted(chains)]


async def stream_chain(
    session: AsyncSession, organization_id: int | None, first: int, last: int
) -> AsyncIterator[Sequence[Row]]:
    """Yield a range of a chain in its order, a thousand rows at a time."""
    statement = (
        select(*COLUMNS)
        .where(_of(organization_id), AuditLog.position.between(first, last))
        .order_by(AuditLog.position, AuditLog.id)
    )
    result = await session.stream(statement, execution_options={"yield_per": CHUNK})
    async for rows in result.mappings().partitions():
        yield rows


async def find_hash(
    session: AsyncSession, organization_id: int | None, position: int
) -> bytes | None:
    """Return the hash of the row at a position of a chain, or None."""
    statement = select(AuditLog.hash).where(_of(organization_id), AuditLog.position == position)
    return (await session.scalars(statement.limit(1))).first()


async def list_heads(session: AsyncSession) -> dict[int, Head]:
    """Return the heads of all chains."""
    statement = select(ChainHead.organization_id, ChainHead.position, ChainHead.hash)
    return {id_: Head(position, hash_) for id_, position, hash_ in await session.execute(statement)}


async def lock_heads(session: AsyncSession, chains: list[int]) -> dict[int, Head]:
    """Return the heads that exist of some chains, locked until the transaction ends."""
    rows = await fetch(session, LOCK_HEADS.format(chains="$1"), chains)
    return {row["organization_id"]: Head(row["position"], row["hash"]) for row in rows}
