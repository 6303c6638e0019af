"""The envelope of every event: CloudEvents 1.0 with our `data` (see docs/events.md).

Unknown fields are preserved: readers ignore them, the audit trail stores them.
"""

from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from shared.fields import EventTime


class EventActor(BaseModel):
    """Who made the change; a timer or a consumer is `system`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    user_id: int | None = None
    role: str = "system"
    ip_address: str | None = None
    user_agent: str | None = None


class EventData(BaseModel):
    """The change. After an update `old_values` and `new_values` hold only the changed fields."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    action: str
    entity_type: str
    entity_id: int | None
    entity_version: int
    organization_id: int | None
    actor: EventActor
    correlation_id: str
    causation_id: str | None = None
    old_values: dict[str, Any]
    new_values: dict[str, Any]


class Event(BaseModel):
    """An event as it is published."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    time: EventTime
    subject: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: EventData

    @property
    def correlation_id(self) -> str:
        """The id of the request that caused the change, directly or through other events."""
        return self.data.correlation_id


class ConsumedEvent(Protocol):
    """The properties of an event that a consumer needs, whatever type its reader returns."""

    @property
    def id(self) -> str:
        """The id by which the inbox recognizes an event."""

    @property
    def type(self) -> str:
        """The type of the event."""

    @property
    def source(self) -> str:
        """The service that published the event: `carnet/<service>`."""

    @property
    def time(self) -> datetime:
        """The time of the change."""

    @property
    def correlation_id(self) -> str:
        """The id of the request that caused the change."""


AnEvent = TypeVar("AnEvent", bound=ConsumedEvent)
"""The type that a consumer's reader returns and its handler takes."""
