"""The inbox: a unique row per event and queue, in the transaction of the event's effect."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import now
from shared.events import Event
from shared.outbox import SharedBase

REMEMBERED = timedelta(days=30)
"""Longer than any message waits anywhere, the dead-letter queues aside."""


class InboxMessage(SharedBase):
    """An event whose effect is in this database."""

    __tablename__ = "inbox"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(default=now, index=True)


async def take(session: AsyncSession, queue: str, events: Sequence[Event]) -> list[Event]:
    """Return the events that were never handled, once each, and mark them handled.

    The unique key decides, not a look beforehand: of two deliveries at once, one waits and
    finds the other's row.
    """
    distinct = {event.id: event for event in events}
    if not distinct:
        return []
    rows = [{"event_id": id_, "queue": queue} for id_ in distinct]
    statement = insert(InboxMessage).values(rows).on_conflict_do_nothing()
    new = set(await session.scalars(statement.returning(InboxMessage.event_id)))
    return [event for id_, event in distinct.items() if id_ in new]


async def forget_older_than(session: AsyncSession, age: timedelta) -> None:
    """Drop marks so old that no broker still holds their message."""
    await session.execute(delete(InboxMessage).where(InboxMessage.handled_at < now() - age))
