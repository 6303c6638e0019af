"""The inbox: one row per event and queue, written in the transaction of the event's effect."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.connections import fetch
from shared.db import now
from shared.events import AnEvent
from shared.failpoints import failpoint
from shared.outbox import SharedBase

RETENTION = timedelta(days=30)
"""Longer than any message may wait, except in the dead-letter queues."""


# Ordered, so that two transactions with the same events wait for each other without a deadlock.
TAKE = (
    "INSERT INTO inbox (event_id, queue, handled_at) SELECT id, $2, $3::timestamptz"
    " FROM unnest($1::text[]) AS id ORDER BY id ON CONFLICT DO NOTHING RETURNING event_id"
)
"""Marks events as handled and returns those that were not. Parameters: ids, queue, moment."""


class InboxMessage(SharedBase):
    """An event whose effect is committed in this database."""

    __tablename__ = "inbox"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(default=now, index=True)


async def take(session: AsyncSession, queue: str, events: Sequence[AnEvent]) -> list[AnEvent]:
    """Return the events that were not handled before, once each, and mark them as handled.

    The primary key decides, not a query beforehand: of two simultaneous deliveries one waits, and
    then finds the row of the other.
    """
    distinct = {event.id: event for event in events}
    if not distinct:
        return []
    rows = await fetch(session, TAKE, list(distinct), queue, now())
    failpoint("inbox.inserted")
    new = {row["event_id"] for row in rows}
    return [event for id_, event in distinct.items() if id_ in new]


async def delete_expired(session: AsyncSession) -> None:
    """Delete the rows that are older than RETENTION."""
    await session.execute(delete(InboxMessage).where(InboxMessage.handled_at < now() - RETENTION))
