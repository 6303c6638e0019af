"""The inbox: a unique row per event and queue, in the transaction of the event's effect."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import now
from shared.events import AnEvent
from shared.failpoints import failpoint
from shared.outbox import SharedBase

REMEMBERED = timedelta(days=30)
"""Longer than any message waits anywhere, the dead-letter queues aside."""


# One array instead of a row of parameters each: SQLAlchemy would build the statement anew for each
# size of batch. In one order, so that two who meet each other's events wait instead of deadlocking.
_TAKE = text(
    "INSERT INTO inbox (event_id, queue, handled_at) SELECT id, :queue, :now"
    " FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id"
    " ON CONFLICT DO NOTHING RETURNING event_id"
)


class InboxMessage(SharedBase):
    """An event whose effect is in this database."""

    __tablename__ = "inbox"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(default=now, index=True)


async def take(session: AsyncSession, queue: str, events: Sequence[AnEvent]) -> list[AnEvent]:
    """Return the events that were never handled, once each, and mark them handled.

    The unique key decides, not a look beforehand: of two deliveries at once, one waits and
    finds the other's row.
    """
    distinct = {event.id: event for event in events}
    if not distinct:
        return []
    new = set(await session.scalars(_TAKE, {"ids": list(distinct), "queue": queue, "now": now()}))
    failpoint("inbox.inserted")
    return [event for id_, event in distinct.items() if id_ in new]


async def forget_older_than(session: AsyncSession, age: timedelta) -> None:
    """Drop marks so old that no broker still holds their message."""
    await session.execute(delete(InboxMessage).where(InboxMessage.handled_at < now() - age))
