"""Requests and responses of classes and sessions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.vouchers.models import Attestation, SessionStatus
from services.vouchers.schemas.calendars import VoucherTypeIds
from services.vouchers.schemas.reservations import Attested
from services.vouchers.schemas.voucher_types import Clients, Minutes
from shared.fields import BodyId, Instant, Name, RequestBody, Text, without_defaults

Things = Annotated[list[BodyId], Field(max_length=20)]
"""The ids of rooms and equipment."""


class ClassCreate(RequestBody):
    """A kind of session. Without voucher types every type of the right size pays for it."""

    name: Name
    description: Text | None = None
    duration_minutes: Minutes = 60
    capacity: Clients = 1
    therapist_id: BodyId | None = None
    room_id: BodyId | None = None
    voucher_type_ids: VoucherTypeIds = Field(default_factory=list)


class ClassUpdate(RequestBody):
    """The fields to change. Sessions that exist stay as they are."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: Name = ""
    description: Text | None = None
    duration_minutes: Minutes = 60
    capacity: Clients = 1
    therapist_id: BodyId | None = None
    room_id: BodyId | None = None
    is_active: bool = True
    voucher_type_ids: VoucherTypeIds = Field(default_factory=list)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class ClassRead(BaseModel):
    """A kind of session; `therapist_id` is a user, `room_id` a resource."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    name: str
    description: str | None
    duration_minutes: int
    capacity: int
    therapist_id: int | None
    room_id: int | None
    is_active: bool
    voucher_type_ids: list[int]
    version: int


class SessionCreate(RequestBody):
    """A single session. What is not stated is that of the class.

    `resource_ids` are rooms and equipment. With `allow_overlap` its therapist and room can have
    other sessions at the same time.
    """

    starts_at: Instant
    therapy_class_id: BodyId | None = None
    duration_minutes: Minutes | None = None
    capacity: Clients | None = None
    therapist_id: BodyId | None = None
    resource_ids: Things | None = None
    allow_overlap: bool = False
    notes: Text | None = None


class SessionUpdate(RequestBody):
    """The fields to change. A new time or therapist is that of everybody who has a place."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    starts_at: Instant | None = None
    duration_minutes: Minutes | None = None
    capacity: Clients | None = None
    therapist_id: BodyId | None = None
    resource_ids: Things | None = None
    notes: Text | None = None

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class SessionCancellation(RequestBody):
    """Why a session is cancelled. The reason is confidential."""

    reason: Text | None = None


class SessionRead(BaseModel):
    """A session with its free seats, as its clients see it."""

    id: int
    organization_id: int
    therapy_class_id: int | None
    series_id: int | None
    name: str | None
    starts_at: datetime
    ends_at: datetime
    timezone: str
    therapist_id: int | None
    resource_ids: list[int]
    capacity: int
    seats_left: int
    on_demand: bool
    status: SessionStatus
    version: int


class Participant(BaseModel):
    """A client's place in a session, as the staff sees it."""

    reservation_id: int
    client_id: int | None
    client_name: str | None
    voucher_id: int | None
    status: str
    version: int


class SessionDetail(SessionRead):
    """A session; the notes and participants are null for clients."""

    notes: str | None
    cancelled_reason: str | None
    participants: list[Participant] | None


class Mark(RequestBody):
    """Whether a client took part, and who attests it."""

    reservation_id: BodyId
    status: Literal["attended", "no_show"]
    attestation: Attested = Attestation.STAFF


class Attendance(RequestBody):
    """The marks of a session: all of them are applied, or none."""

    marks: Annotated[list[Mark], Field(min_length=1, max_length=500)]
