"""The outbox: events wait here, in the transaction of their change, until the broker has them."""

from datetime import datetime

from sqlalchemy import Identity, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, metadata, now
from shared.events import Event


class SharedBase(DeclarativeBase):
    """Root of the tables that every service's schema holds a copy of."""

    metadata = metadata()
    type_annotation_map = TYPES


class OutboxMessage(SharedBase):
    """One event on its way to the broker. Rows are deleted once the broker has confirmed them.

    Ids grow in the order in which transactions reached their end, so two changes of one entity,
    whose row lock orders them, leave in that order.
    """

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[str]
    type: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


NOTIFY_CHANNEL = "outbox"


async def append(session: AsyncSession, events: list[Event]) -> None:
    """Add the events to the outbox and wake the relay when the transaction commits."""
    if not events:
        return
    rows = [
        {"event_id": event.id, "type": event.type, "body": event.model_dump_json()}
        for event in events
    ]
    await session.execute(insert(OutboxMessage), rows)
    # One channel per schema: services may share a database, and a channel belongs to it.
    channel = func.concat(NOTIFY_CHANNEL, "_", func.current_schema())
    await session.execute(select(func.pg_notify(channel, "")))
