"""An event as an audit row, without what depends on the row's place in a chain."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel

from services.audit.evidence.canonical import NUL, Writer, is_plain, storable, write_plain
from services.audit.evidence.chain import Text, chain_of
from services.audit.evidence.personal import Commitments
from shared.events import Event, EventActor, EventData

_NUL = NUL.decode()
_NO_EXTRAS: tuple[dict[str, Any], ...] = ({}, {}, {})
_JSON_COLUMNS = ("old_values", "new_values", "envelope")


def _besides(model: type[BaseModel], *columns: str) -> tuple[str, ...]:
    return tuple(name for name in model.model_fields if name not in columns)


# Values that have a column of their own are not repeated in the envelope.
_OF_EVENT = _besides(Event, "id", "time", "data")
_OF_DATA = _besides(
    EventData,
    "action",
    "entity_type",
    "entity_id",
    "organization_id",
    "correlation_id",
    "old_values",
    "new_values",
    "actor",
)
_OF_ACTOR = _besides(EventActor, "user_id", "ip_address", "user_agent")


def _only(model: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    # As they were read from JSON: dumping the model would copy every value.
    fields = vars(model)
    return {name: fields[name] for name in names} | (model.model_extra or {})


@dataclass(frozen=True, slots=True)
class Draft:
    """An audit row without id, position and hashes, as the database takes it.

    `personal` are the rows of the personal values that the row commits to.
    """

    type: str
    source: str
    columns: dict[str, Any]
    text: Text
    personal: Sequence[dict[str, Any]]

    @property
    def id(self) -> str:
        """The id of the event that the row is made of."""
        event_id: str = self.columns["event_id"]
        return event_id

    @property
    def time(self) -> datetime:
        """When the event happened."""
        created_at: datetime = self.columns["created_at"]
        return created_at

    @property
    def correlation_id(self) -> str:
        """The request, or the cause, that the event belongs to."""
        correlation_id: str = self.columns["correlation_id"]
        return correlation_id

    @property
    def chain(self) -> int:
        """The chain that the row belongs to."""
        return chain_of(self.columns["organization_id"])


def read(body: bytes) -> Draft:
    """Return the draft of the event in a message. Raises ValidationError if there is none.

    Making the draft is half the work of writing a row, and is done while the database writes the
    batch before. Only the draft stays in memory: thousands of events may wait, of some thirty
    objects each.
    """
    return draft_of(Event.model_validate_json(body))


def draft_of(event: Event) -> Draft:
    """Return the draft of an event's row, its personal data replaced by commitments."""
    return plain_draft_of(event) or general_draft_of(event)


def plain_draft_of(event: Event) -> Draft | None:
    """Return the draft of an event whose values all are plain, or None.

    Almost all are. Their columns are written once, as canonical text, which the row's text repeats:
    that takes half the time of `general_draft_of`, and has the same result.
    """
    data = event.data
    # The model has checked the types of all other values.
    unchecked = (data.old_values, data.new_values)
    extras = (event.model_extra, data.model_extra, data.actor.model_extra)
    if not all(map(is_plain, unchecked)) or not (extras == _NO_EXTRAS or is_plain([*extras])):
        return None
    row = _values_of(event)
    row["created_at"] = _instant_of(event)
    commitments = Commitments()
    commitments.withhold(row)
    try:
        columns = {name: write_plain(row[name]) for name in _JSON_COLUMNS}
        fragments = {name: orjson.Fragment(text) for name, text in columns.items()}
        text = Text.of_plain(row | fragments)
    except orjson.JSONEncodeError:
        return None
    if text is None or any(_NUL in value["value"] for value in commitments.rows):
        return None
    row |= {name: column.decode() for name, column in columns.items()}
    return Draft(event.type, event.source, row, text, commitments.rows)


def general_draft_of(event: Event) -> Draft:
    """Return the draft of any event."""
    row, write = row_of(event)
    commitments = Commitments()
    commitments.withhold(row)
    text = Text.of(row, write)
    columns = row | {name: _json_text(row[name]) for name in _JSON_COLUMNS}
    return Draft(event.type, event.source, columns, text, commitments.rows)


def _json_text(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Only the standard encoder knows integers of more than 64 bits.
        return json.dumps(value, ensure_ascii=False)


def row_of(event: Event) -> tuple[dict[str, Any], Writer]:
    """Return the columns of an event's audit row without its place in the chain.

    The second value is the function that writes their canonical text.
    """
    row, write = storable(_values_of(event))
    row["created_at"] = _instant_of(event)
    return row, write


def _values_of(event: Event) -> dict[str, Any]:
    data = event.data
    actor = data.actor
    return {
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
        # The values of the event that have no column, including unknown fields.
        "envelope": _only(event, _OF_EVENT)
        | {"data": _only(data, _OF_DATA) | {"actor": _only(actor, _OF_ACTOR)}},
    }


def _instant_of(event: Event) -> datetime:
    # Not every publisher names a zone; all of ours mean UTC.
    time = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
    return time.astimezone(UTC)


def service_of(source: str) -> str:
    """Return the service that a source such as `carnet/vouchers` names."""
    return source.rpartition("/")[2]
