"""Requests and responses of series booking: one time of the week for many sessions."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field

from services.vouchers.schemas.reservations import OverrideFields, ReasonRead, Slot
from services.vouchers.schemas.series import EveryWeeks
from services.vouchers.schemas.voucher_types import ClockTime, CustomDays
from shared.fields import BodyId, Choice, Day

MOST_DATES = 366
"""How many dates a series booking considers at most."""


class OnConflict(StrEnum):
    """What happens with a date that cannot be booked.

    `skip` leaves it out, `append` books a later date in its place, `fail` books nothing.
    """

    SKIP = "skip"
    APPEND = "append"
    FAIL = "fail"


class SeriesBooking(OverrideFields):
    """One time on weekdays of every n-th ISO week, from a first date on.

    `start_time` is a time of the organization's wall clock. `count` null means all sessions of
    the voucher that can be booked. With `dry_run` nothing is booked.
    """

    first_date: Day
    weekdays: CustomDays
    every_weeks: EveryWeeks = 1
    start_time: ClockTime
    therapist_id: BodyId | None = None
    count: Annotated[int, Field(ge=1, le=MOST_DATES)] | None = None
    on_conflict: Choice[OnConflict] = OnConflict.SKIP
    dry_run: bool = False


class SeriesDateRead(BaseModel):
    """A date of a series booking: what was booked, or what is against it.

    `starts_at` is null if the clock skips the time. `bookable` is true without a reason against it;
    `reservation_id` is null in a dry run. `proposals` are free times of its week for a date that
    was refused: the nearest three, for the first 20 such dates.
    """

    date: date
    starts_at: datetime | None
    session_id: int | None
    therapist_id: int | None
    bookable: bool
    reservation_id: int | None
    reasons: list[ReasonRead]
    proposals: list[Slot]


class SeriesBookingResult(BaseModel):
    """The dates of a series booking, and the balance of the voucher afterwards."""

    dates: list[SeriesDateRead]
    bookable_sessions: int
    booked_sessions: int
