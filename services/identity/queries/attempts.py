"""Selects of counted attempts."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import AttemptCount
from shared.db import now


async def list_attempt_counts(
    session: AsyncSession, keys: Collection[bytes]
) -> Sequence[tuple[bytes, int, datetime]]:
    """Return key, count and end of the window of the counts whose window has not ended."""
    statement = select(AttemptCount.key, AttemptCount.count, AttemptCount.ends_at).where(
        AttemptCount.key.in_(keys), AttemptCount.ends_at > now()
    )
    return [(key, count, ends_at) for key, count, ends_at in await session.execute(statement)]


async def lock_attempt_counts(session: AsyncSession, keys: Collection[bytes]) -> None:
    """Lock the counts under these keys, always in the same order."""
    statement = select(AttemptCount.key).where(AttemptCount.key.in_(keys))
    await session.execute(statement.order_by(AttemptCount.key).with_for_update())
