"""The outbox: events are stored in the transaction of their change until the broker has them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Identity
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.connections import fetch
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

NOTIFY = f"pg_notify(concat('{NOTIFY_CHANNEL}_', current_schema()), '')"
"""The expression that wakes the relay. One channel per schema: services may share a database, where
channels are common."""


def append_statement(first: int, *, body: str = "body", condition: str = "true") -> str:
    """Return the statement that appends events, with parameters from number `first` on.

    They are those of `append_parameters`. `body` is an expression of the stored body, and nothing
    is appended unless `condition` is true. Ids grow in the order of the events.
    """
    ids, types, bodies, moment = (f"${number}" for number in range(first, first + 4))
    return (
        "INSERT INTO outbox (event_id, type, body, created_at)"  # noqa: S608 - names of our own
        f" SELECT event_id, type, {body}, {moment}::timestamptz"
        f" FROM unnest({ids}::text[], {types}::text[], {bodies}::text[])"
        " WITH ORDINALITY AS event (event_id, type, body, place)"
        f" WHERE {condition} ORDER BY place"
    )


def append_parameters(events: Sequence[Event]) -> tuple[Any, ...]:
    """Return the four parameters of `append_statement`."""
    return (
        [event.id for event in events],
        [event.type for event in events],
        [event.model_dump_json() for event in events],
        now(),
    )


# One statement, because every transaction with a change executes it.
_APPEND = f"WITH added AS ({append_statement(1)}) SELECT {NOTIFY}"


async def append(session: AsyncSession, events: Sequence[Event]) -> None:
    """Add events to the outbox, and notify the relay when the transaction commits."""
    if events:
        await fetch(session, _APPEND, *append_parameters(events))
