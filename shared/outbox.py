"""The outbox: events are stored in the transaction of their change until the broker has them."""

from datetime import datetime

from sqlalchemy import Identity, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, metadata, now
from shared.events import Event


class SharedBase(DeclarativeBase):
    """Root of the tables that every service's schema has."""

    metadata = metadata()
    type_annotation_map = TYPES


class OutboxMessage(SharedBase):
    """An event that waits for the broker. The row is deleted when the broker has confirmed it.

    Ids grow in the order in which transactions end. Two changes of one entity are ordered by its
    row lock, so their events are sent in that order.
    """

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[str]
    type: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


NOTIFY_CHANNEL = "outbox"

# One statement, because every transaction with a change executes it. Ids grow in the order of the
# events. One channel per schema: services may share a database, where channels are common.
_APPEND = text(
    "WITH added AS ("
    " INSERT INTO outbox (event_id, type, body, created_at)"
    " SELECT event_id, type, body, :now FROM"
    " unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:bodies AS text[]))"
    " WITH ORDINALITY AS event (event_id, type, body, place) ORDER BY place"
    ") SELECT pg_notify(concat(CAST(:channel AS text), '_', current_schema()), '')"
)


async def append(session: AsyncSession, events: list[Event]) -> None:
    """Add events to the outbox, and notify the relay when the transaction commits."""
    if not events:
        return
    await session.execute(
        _APPEND,
        {
            "ids": [event.id for event in events],
            "types": [event.type for event in events],
            "bodies": [event.model_dump_json() for event in events],
            "now": now(),
            "channel": NOTIFY_CHANNEL,
        },
    )
