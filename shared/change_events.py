"""Events of changes: their columns and values, whichever way the row was written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import inspect
from uuid_utils import uuid7

from shared.context import Origin
from shared.db import BOOKKEEPING, SECRET, Entity, now
from shared.events import Event, EventActor, EventData

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about; `id` is None if it is unknown, `version` 0 if no row changed."""

    entity_type: str
    id: int | None
    version: int
    organization_id: int | None


_AUDITED: dict[type[Entity], tuple[str, ...]] = {}


def audited_columns(kind: type[Entity]) -> tuple[str, ...]:
    """Return the names of the columns that a model's events may hold."""
    if kind not in _AUDITED:
        _AUDITED[kind] = tuple(
            attribute.key
            for attribute in inspect(kind).column_attrs
            if not attribute.columns[0].info.keys() & (SECRET | BOOKKEEPING)
        )
    return _AUDITED[kind]


def plain_values(values: Mapping[str, Any]) -> Values:
    """Return values as JSON represents them without loss."""
    return {name: plain_value(value) for name, value in values.items()}


def plain_value(value: Any) -> Any:
    """Return a column's value as JSON represents it without loss: money as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


def event_data(
    action: str,
    subject: Subject,
    origin: Origin,
    *,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> EventData:
    """Return the data of an event; `old` and `new` are values as Python has them."""
    return EventData(
        action=action,
        entity_type=subject.entity_type,
        entity_id=subject.id,
        entity_version=subject.version,
        organization_id=subject.organization_id,
        actor=EventActor(
            user_id=origin.user_id,
            role=origin.role,
            ip_address=origin.ip_address,
            user_agent=origin.user_agent,
        ),
        correlation_id=origin.correlation_id,
        causation_id=origin.causation_id,
        old_values=plain_values(old),
        new_values=plain_values(new),
    )


def new_event_id() -> str:
    """Return an id that no other event has; later ids are greater."""
    return str(uuid7())


def new_event(source: str, event_type: str, data: EventData, event_id: str | None = None) -> Event:
    """Return an event with this data, the present time, and a new id unless one is passed."""
    return Event(
        id=event_id or new_event_id(),
        source=source,
        type=event_type,
        time=now(),
        subject=f"{data.entity_type}/{data.entity_id or 'unknown'}",
        data=data,
    )
