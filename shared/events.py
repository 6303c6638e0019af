"""The envelope every change travels in: CloudEvents 1.0 with our `data` (see docs/events.md).

Fields that we do not know are kept: readers pass over them, the audit trail stores them.
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
    """What changed. `old_values` and `new_values` hold only what an update changed."""

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
    """One change, as published."""

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
        """Names what the change belongs to: a request, or what a request caused."""
        return self.data.correlation_id


class Received(Protocol):
    """What a consumer knows of an event, whatever else its reader made of the message."""

    @property
    def id(self) -> str:
        """Names the event; the inbox goes by it."""

    @property
    def type(self) -> str:
        """As the event's."""

    @property
    def source(self) -> str:
        """As the event's."""

    @property
    def time(self) -> datetime:
        """When it happened."""

    @property
    def correlation_id(self) -> str:
        """As the event's."""


AnEvent = TypeVar("AnEvent", bound=Received)
"""What a consumer's reader returns, and its handler takes."""
