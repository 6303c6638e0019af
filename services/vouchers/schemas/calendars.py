"""Requests and responses of booking settings, resources, working hours and closures."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from services.vouchers.external.calendar_addresses import check_calendar_address
from services.vouchers.models import ClosureKind, ResourceKind
from services.vouchers.schemas.booking_policy import BookingPolicy, fault_of_policy
from services.vouchers.schemas.voucher_types import RulesRead
from shared.fields import (
    BodyId,
    Choice,
    Day,
    LocalTime,
    Name,
    RequestBody,
    StoredLocalTime,
    Text,
    TimeZone,
    without_defaults,
)

_CLOCK_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00")


def minute_of(value: str) -> int:
    """Return the minute of the day of a clock time, such as 570 of 09:30."""
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)


def clock_time_of(minute: int) -> str:
    """Return a minute of the day as a clock time, such as 09:30; 1440 is 24:00."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _clock_time(value: str) -> str:
    if not _CLOCK_TIME.fullmatch(value):
        raise PydanticCustomError("clock_time", "must be a time HH:MM from 00:00 to 24:00")
    return value


DayTime = Annotated[
    str,
    AfterValidator(_clock_time),
    Field(json_schema_extra={"pattern": f"^({_CLOCK_TIME.pattern})$"}),
]
"""A time of the wall clock, HH:MM; 24:00 is the end of the day."""


Buffer = Annotated[int, Field(ge=0, le=1440)]
VoucherTypeIds = Annotated[list[BodyId], Field(max_length=200)]


class BookingSettingsUpdate(RequestBody):
    """The settings to change. `default_policy` replaces the whole policy of the organization."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    clients_book: bool = True
    therapists_edit_hours: bool = True
    feed_names: bool = False
    default_policy: BookingPolicy = Field(default_factory=BookingPolicy)

    @field_validator("default_policy")
    @classmethod
    def _bookable(cls, value: BookingPolicy) -> BookingPolicy:
        if fault := fault_of_policy(value):
            raise PydanticCustomError("policy", f"has a closes_minutes that {fault}")
        return value

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        changes = self.model_dump(exclude_unset=True)
        if "default_policy" in changes:
            changes["default_policy"] = self.default_policy.stored()
        return changes


class BookingSettingsRead(BaseModel):
    """How an organization takes bookings; version 0 means settings that were never changed."""

    model_config = ConfigDict(from_attributes=True)

    organization_id: int
    clients_book: bool
    therapists_edit_hours: bool
    feed_names: bool
    default_policy: RulesRead
    version: int


class ResourceCreate(RequestBody):
    """A room or equipment with a name, or an employee of the organization as a therapist.

    Therapists have a resource without this as soon as the organization has approved them.
    """

    kind: Choice[ResourceKind]
    name: Name | None = Field(default=None, validate_default=True)
    user_id: BodyId | None = Field(default=None, validate_default=True)
    timezone: TimeZone | None = None
    buffer_before_minutes: Buffer = 0
    buffer_after_minutes: Buffer = 0
    voucher_type_ids: VoucherTypeIds = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def _of_a_thing(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind is not None and (value is None) != (kind == ResourceKind.THERAPIST):
            rule = "is needed for a room or equipment, and refused for a therapist"
            raise PydanticCustomError("resource_name", rule)
        return value

    @field_validator("user_id")
    @classmethod
    def _of_a_therapist(cls, value: int | None, info: ValidationInfo) -> int | None:
        kind = info.data.get("kind")
        if kind is not None and (value is None) == (kind == ResourceKind.THERAPIST):
            rule = "is needed for a therapist, and refused for a room or equipment"
            raise PydanticCustomError("resource_user", rule)
        return value


class ResourceUpdate(RequestBody):
    """The fields to change; `timezone` null is the zone of the organization."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: Name = ""
    timezone: TimeZone | None = None
    buffer_before_minutes: Buffer = 0
    buffer_after_minutes: Buffer = 0
    is_active: bool = True
    voucher_type_ids: VoucherTypeIds = Field(default_factory=list)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class HoursEntry(RequestBody):
    """Hours on one weekday, by the wall clock of the resource's zone.

    `weekday` is an ISO weekday (Monday is 1). The days, both inclusive, limit the hours.
    """

    model_config = ConfigDict(from_attributes=True)

    weekday: Annotated[int, Field(ge=1, le=7)]
    start_time: DayTime
    end_time: DayTime
    from_date: Day | None = None
    until_date: Day | None = None

    @field_validator("end_time")
    @classmethod
    def _after_the_start(cls, value: str, info: ValidationInfo) -> str:
        if (start := info.data.get("start_time")) is not None and value <= start:
            raise PydanticCustomError("end_before_start", "must be later than start_time")
        return value

    @field_validator("until_date")
    @classmethod
    def _not_before_the_first(cls, value: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("from_date")
        if value is not None and first is not None and value < first:
            raise PydanticCustomError("end_before_start", "must not be before from_date")
        return value

    def columns(self) -> dict[str, Any]:
        """Return the columns of the hours."""
        return {
            "weekday": self.weekday,
            "start_minute": minute_of(self.start_time),
            "end_minute": minute_of(self.end_time),
            "from_date": self.from_date,
            "until_date": self.until_date,
        }


class WorkingHoursUpdate(RequestBody):
    """All working hours of a resource; they replace the present ones."""

    hours: Annotated[list[HoursEntry], Field(max_length=100)]


class HoursRead(BaseModel):
    """Hours on one weekday, by the wall clock of the resource's zone."""

    weekday: int
    start_time: str
    end_time: str
    from_date: date | None
    until_date: date | None


class ResourceRead(BaseModel):
    """A therapist, a room or a piece of equipment; `timezone` null is the organization's zone."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    kind: ResourceKind
    user_id: int | None
    name: str | None
    timezone: str | None
    buffer_before_minutes: int
    buffer_after_minutes: int
    is_active: bool
    voucher_type_ids: list[int]
    version: int


class ConflictRead(BaseModel):
    """A reservation that is outside of the hours now; it stays, and the staff decides."""

    reservation_id: int
    session_id: int
    client_id: int | None
    starts_at: datetime
    ends_at: datetime


class WorkingHoursRead(BaseModel):
    """The working hours of a resource, and the reservations that are outside of them."""

    resource_id: int
    timezone: str
    hours: list[HoursRead]
    conflicts: list[ConflictRead]


class ClosureCreate(RequestBody):
    """A time at which a resource is closed or open, or everybody without `resource_id`.

    The times are those of the wall clock of the resource's zone. The reason is confidential.
    """

    resource_id: BodyId | None = None
    kind: Choice[ClosureKind] = ClosureKind.CLOSED
    starts_local: LocalTime
    ends_local: LocalTime
    reason: Text | None = None

    @field_validator("ends_local")
    @classmethod
    def _after_the_start(cls, value: datetime, info: ValidationInfo) -> datetime:
        if (start := info.data.get("starts_local")) is not None and value <= start:
            raise PydanticCustomError("end_before_start", "must be later than starts_local")
        return value


class ClosureRead(BaseModel):
    """A closure. The reason is shown to those who manage the calendar."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    resource_id: int | None
    kind: ClosureKind
    starts_local: StoredLocalTime
    ends_local: StoredLocalTime
    reason: str | None
    source: str
    version: int


class ClosureResult(ClosureRead):
    """A new closure, and the reservations that are outside of the hours now."""

    conflicts: list[ConflictRead]


class HolidaysCreate(RequestBody):
    """The public holidays of a year for which everybody is closed.

    `country` is an ISO 3166-1 code such as PL, `subdivision` a part of it such as BY in DE. Without
    a subdivision the days are those of the whole country.
    """

    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    subdivision: Name | None = None
    year: Annotated[int, Field(ge=2000, le=2100)]


class HolidaysResult(BaseModel):
    """The closures of these holidays, how many are new, and the reservations outside now."""

    closures: list[ClosureRead]
    created: int
    conflicts: list[ConflictRead]


def _calendar_address(address: str) -> str:
    check_calendar_address(address)
    return address


CalendarAddress = Annotated[
    str,
    Field(
        max_length=2000,
        json_schema_extra={
            "format": "uri",
            "pattern": r"^(https|webcal)://[^/?#@:\\\s]+(:443)?([/?#]|$)",
        },
    ),
    AfterValidator(_calendar_address),
]


class BusyCalendarUpdate(RequestBody):
    """The https or webcal address of a calendar in the format iCalendar.

    It is stored encrypted and not shown again: whoever has it can read the calendar.
    """

    address: CalendarAddress


class BusyCalendarRead(BaseModel):
    """A resource's calendar elsewhere. Nothing of its events but their times is stored.

    `busy_times` counts those from now to 400 days ahead. `last_error` states why the last reading
    failed; the times of the one before still apply then. `conflicts` are the reservations that are
    outside of the hours, closures and busy times.
    """

    resource_id: int
    host: str
    last_read_at: datetime | None
    next_read_at: datetime
    failing_since: datetime | None
    last_error: str | None
    busy_times: int
    conflicts: list[ConflictRead]


class CalendarEntry(BaseModel):
    """A stretch of a resource's calendar: open, closed, busy elsewhere, or in a session."""

    kind: Literal["open", "closed", "busy", "session"]
    starts_at: datetime
    ends_at: datetime
    session_id: int | None = None
