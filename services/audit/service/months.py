"""The months of the trail, each a partition of its table."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.transactions import Transactions

MONTHS_AHEAD = 3
_ENSURE_PARTITION = text("SELECT ensure_partition(:instant)")


async def make_months(transactions: Transactions, moment: datetime) -> None:
    """Make this month and those ahead, so that no insert has to wait for a new partition."""
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(MONTHS_AHEAD + 1):
        async with transactions.system() as session:
            await ensure_partition(session, first)
        first = (first + timedelta(days=31)).replace(day=1)


async def ensure_partition(session: AsyncSession, instant: datetime) -> None:
    """Make the month of an instant, unless it exists."""
    await session.execute(_ENSURE_PARTITION, {"instant": instant})
