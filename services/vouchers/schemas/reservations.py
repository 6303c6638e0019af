"""Requests and responses of slots and reservations."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from services.vouchers.models import Attestation, HeldFor
from services.vouchers.scheduling.snapshots import ReservationStatus
from shared.fields import BodyId, Instant, Name, RequestBody, Text

Override = Literal[
    "too_early",
    "too_late",
    "wrong_class",
    "weekday_not_allowed",
    "outside_booking_rules",
    "frequency_reached",
    "max_open_reached",
    "client_busy",
    "therapist_unavailable",
]
"""The reasons that a manager of bookings may override."""


Attested = Literal[Attestation.STAFF, Attestation.SIGNATURE]
"""Who attests a session that is marked. A code attests the redemption for which it is shown."""


class SessionChoice(RequestBody):
    """A session that exists, or a time: with a therapist, or with any who is free."""

    session_id: BodyId | None = None
    starts_at: Instant | None = Field(default=None, validate_default=True)
    therapist_id: BodyId | None = None

    @field_validator("starts_at")
    @classmethod
    def _instead_of_a_session(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if "session_id" in info.data and (value is None) == (info.data["session_id"] is None):
            rule = "is needed unless session_id is sent"
            if value is not None:
                rule = "cannot be sent together with session_id"
            raise PydanticCustomError("session_or_time", rule)
        return value

    @field_validator("therapist_id")
    @classmethod
    def _with_a_time(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("session_id") is not None:
            raise PydanticCustomError("session_or_time", "is for a starts_at, not for a session_id")
        return value


class OverrideFields(RequestBody):
    """Managers of bookings may override reasons, and state why."""

    override: Annotated[list[Override], Field(max_length=9)] = Field(default_factory=list)
    override_reason: Name | None = Field(default=None, validate_default=True)

    @field_validator("override_reason")
    @classmethod
    def _of_an_override(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("override") and value is None:
            raise PydanticCustomError("override_reason", "is needed to override a reason")
        return value


class ReservationCreate(OverrideFields, SessionChoice):
    """A session to book. Managers of bookings may override reasons, and state why.

    With `hold` the time is held for the minutes of the booking policy, until it is confirmed. With
    `waitlist` the client waits for a seat, if the session is full and nothing else is against it.
    """

    hold: bool = False
    waitlist: bool = False

    @field_validator("waitlist")
    @classmethod
    def _of_a_session(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("hold"):
            raise PydanticCustomError("waitlist_or_hold", "cannot be sent together with hold")
        if value and info.data.get("starts_at") is not None:
            raise PydanticCustomError("waitlist_of_session", "is for a session_id only")
        return value


class Slot(BaseModel):
    """A session that can be booked: one that exists, or a free time of a therapist."""

    starts_at: datetime
    ends_at: datetime
    therapist_id: int | None
    session_id: int | None
    seats_left: int


class SlotDay(BaseModel):
    """A day with the number of its slots; `closed_by` is the code of a reason of the voucher."""

    date: date
    slots: int
    first_starts_at: datetime | None
    closed_by: str | None


class ReasonRead(BaseModel):
    """A reason against a booking, and the first day on which it no longer holds, if known."""

    code: str
    detail: str
    overridable: bool
    until: date | None


class EligibilityRead(BaseModel):
    """Whether a session can be booked, every reason against it, and the next free times."""

    eligible: bool
    reasons: list[ReasonRead]
    next_slots: list[Slot]


class ReservationRead(BaseModel):
    """A client's place in a session. The times are in the zone of the session.

    `attestation` states who attested that the session took place. `is_attested` is false if a timer
    marked it.
    """

    id: int
    organization_id: int
    voucher_id: int | None
    client_id: int | None
    session_id: int
    session_name: str | None
    therapist_id: int | None
    starts_at: datetime
    ends_at: datetime
    timezone: str
    status: ReservationStatus
    held_for: HeldFor | None
    held_until: datetime | None
    overrides: list[str]
    reason: str | None
    redemption_id: int | None
    attestation: Attestation | None
    is_attested: bool
    settled_at: datetime | None
    created_at: datetime
    version: int


class ReservationResult(ReservationRead):
    """A reservation, until when it can be cancelled for free, and the balance of its voucher.

    `waiting_position` is its place in the waiting list; the first one is 1.
    """

    waiting_position: int | None
    free_until: datetime | None
    bookable_sessions: int | None
    booked_sessions: int | None
    regular_sessions_left: int | None
    backup_sessions_left: int | None


class CancellationPrice(BaseModel):
    """What a cancellation would cost now: nothing, a backup session or a regular one."""

    late: bool
    charges: Literal["none", "backup", "regular"]
    free_until: datetime
    bookable_sessions: int | None
    backup_sessions_left: int | None


class ReservationCancel(RequestBody):
    """A late cancellation by the client needs `accept_charge`."""

    accept_charge: bool = False
    reason: Text | None = None


class Reschedule(SessionChoice):
    """The session in whose place the reservation is moved."""


class AttendanceMark(RequestBody):
    """Who attests that the client took part: the staff, or the client by a signature."""

    attestation: Attested = Attestation.STAFF


class MarkRead(BaseModel):
    """A reservation that was marked."""

    reservation_id: int
    status: ReservationStatus
    charge: Literal["none", "backup", "regular"]
