"""Requests and responses of series of sessions."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from services.vouchers.models import SeriesStatus
from services.vouchers.schemas.sessions import Things
from services.vouchers.schemas.voucher_types import Clients, ClockTime, CustomDays, Minutes
from shared.fields import BodyId, Day, RequestBody, Text, TimeZone, without_defaults

EveryWeeks = Annotated[int, Field(ge=1, le=52)]
"""A series has sessions in every n-th ISO week."""


class SeriesCreate(RequestBody):
    """Sessions of a class at one time on weekdays. What is not stated is that of the class.

    `start_time` is a time of the organization's wall clock. `resource_ids` are rooms and equipment.
    """

    therapy_class_id: BodyId
    weekdays: CustomDays
    every_weeks: EveryWeeks = 1
    start_time: ClockTime
    duration_minutes: Minutes | None = None
    capacity: Clients | None = None
    therapist_id: BodyId | None = None
    resource_ids: Things | None = None
    first_date: Day
    last_date: Day | None = None

    @field_validator("last_date")
    @classmethod
    def _not_before_the_first(cls, value: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("first_date")
        if value is not None and first is not None and value < first:
            raise PydanticCustomError("end_before_start", "must not be before first_date")
        return value


class SeriesUpdate(RequestBody):
    """What changes from a day on: the series ends before it, and another one continues it.

    `last_date` null removes the end. `timezone` is that of the series or that of the organization.
    With `release_reservations`, the reservations of sessions that have no place in the changed
    series are cancelled without charge.
    """

    model_config = ConfigDict(json_schema_extra=without_defaults)

    first_day: Day = Field(alias="from")
    weekdays: CustomDays = Field(default_factory=lambda: [1])
    every_weeks: EveryWeeks = 1
    start_time: ClockTime = "00:00"
    duration_minutes: Minutes = 60
    capacity: Clients = 1
    therapist_id: BodyId | None = None
    resource_ids: Things = Field(default_factory=list)
    last_date: Day | None = None
    timezone: TimeZone = "UTC"
    release_reservations: bool = False

    def changes(self) -> dict[str, Any]:
        """Return the rules of the series that were sent."""
        return self.model_dump(exclude_unset=True, exclude={"first_day", "release_reservations"})


class SeriesEnd(RequestBody):
    """The last day with sessions: today if it is not sent. The reason is confidential.

    With `release_reservations`, the reservations of later sessions are cancelled without charge.
    """

    last_date: Day | None = None
    release_reservations: bool = False
    reason: Text | None = None


class SeriesConflict(StrEnum):
    """What is against the session of a date."""

    NO_SUCH_TIME = "no_such_time"
    CLOSED = "closed"
    RESOURCE_INACTIVE = "resource_inactive"
    SLOT_TAKEN = "slot_taken"
    ROOM_TAKEN = "room_taken"


class SeriesConflictRead(BaseModel):
    """A date of a series without a session, or with one during a closure (`session_id`)."""

    date: date
    starts_at: datetime | None
    session_id: int | None
    code: SeriesConflict
    detail: str


class SeriesRead(BaseModel):
    """Sessions of a class at one time on weekdays of every n-th ISO week.

    The sessions exist up to `made_until`. `start_time` is a time of the wall clock of `timezone`.
    `new_timezone` is the zone to which the organization has moved since it was chosen: send one of
    the two zones as `timezone` of a change. `follows_id` is the series that this one continues.
    """

    id: int
    organization_id: int
    therapy_class_id: int
    name: str | None
    therapist_id: int | None
    resource_ids: list[int]
    timezone: str
    new_timezone: str | None
    weekdays: list[int]
    every_weeks: int
    start_time: str
    duration_minutes: int
    capacity: int
    first_date: date
    last_date: date | None
    made_until: date | None
    follows_id: int | None
    status: SeriesStatus
    version: int


class SeriesDetail(SeriesRead):
    """A series with the dates that need a decision by the staff."""

    conflicts: list[SeriesConflictRead]
