"""An event as an audit row: all that can be told before the row has its place in a chain."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, PrivateAttr

from services.audit.canonical import storable
from services.audit.chain import Text, chain_of
from services.audit.personal import Commitments
from shared.events import Event

# What has a column of its own is left out of the envelope.
_OF_EVENT = {"id", "time", "data"}
_OF_DATA = {
    "action",
    "entity_type",
    "entity_id",
    "organization_id",
    "correlation_id",
    "old_values",
    "new_values",
    "actor",
}
_OF_ACTOR = {"user_id", "ip_address", "user_agent"}
_JSON = ("old_values", "new_values", "envelope")


def _envelope(event: Event) -> dict[str, Any]:
    """Return what of an event has no column, fields that we do not know included."""
    data = _without(event.data, _OF_DATA)
    return {
        **_without(event, _OF_EVENT),
        "data": {**data, "actor": _without(event.data.actor, _OF_ACTOR)},
    }


def _without(model: BaseModel, names: set[str]) -> dict[str, Any]:
    # As they came from JSON: dumping would copy every value.
    fields = {**vars(model), **(model.model_extra or {})}
    return {name: value for name, value in fields.items() if name not in names}


@dataclass(frozen=True, slots=True)
class Draft:
    """An audit row without id, position and hashes, as the database takes it.

    `personal` are the rows of the personal values that it commits to.
    """

    columns: dict[str, Any]
    text: Text
    personal: Sequence[dict[str, Any]]

    @property
    def chain(self) -> int:
        """The chain that the row belongs to."""
        return chain_of(self.columns["organization_id"])


class DraftedEvent(Event):
    """An event whose draft was made when it came."""

    _draft: Draft = PrivateAttr()


def read(body: bytes) -> DraftedEvent:
    """Return the event of a message with its draft. Raises ValidationError when there is none.

    Drafting is half the work of writing a row, and the database is busy meanwhile.
    """
    event = DraftedEvent.model_validate_json(body)
    event._draft = _draft(event)
    return event


def draft_of(event: Event) -> Draft:
    """Return the draft of an event's row, made now unless it came with the event."""
    return event._draft if isinstance(event, DraftedEvent) else _draft(event)


def _draft(event: Event) -> Draft:
    row, commitments = row_of(event), Commitments()
    commitments.withhold(row)
    text = Text.of(row)
    return Draft(row | {name: _write(row[name]) for name in _JSON}, text, commitments.rows)


def _write(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Only the standard encoder knows integers of more than 64 bits.
        return json.dumps(value, ensure_ascii=False)


def row_of(event: Event) -> dict[str, Any]:
    """Return an event as the columns of an audit row, all but its place in the chain."""
    data, actor = event.data, event.data.actor
    row = {
        "user_id": actor.user_id,
        "organization_id": data.organization_id,
        "action": data.action,
        "entity_type": data.entity_type,
        "entity_id": data.entity_id,
        "old_values": data.old_values,
        "new_values": data.new_values,
        "ip_address": actor.ip_address,
        "user_agent": actor.user_agent,
        "event_id": event.id,
        "correlation_id": data.correlation_id,
        "service": service_of(event.source),
        "envelope": _envelope(event),
    }
    stored: dict[str, Any] = storable(row)
    return {**stored, "created_at": _in_utc(event.time)}


def service_of(source: str) -> str:
    """Return the service that a source such as `carnet/vouchers` names."""
    return source.rpartition("/")[2]


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
