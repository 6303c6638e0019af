"""The booking policy of a voucher type, which each voucher copies: when and how to book."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from shared.fields import Choice, RequestBody

_YEAR = 366 * 1440


class Penalty(StrEnum):
    """What a missed session costs the client."""

    BACKUP_FIRST = "backup_first"
    REGULAR = "regular"
    NONE = "none"


class WaitlistMode(StrEnum):
    """What happens with a seat that becomes free while clients wait for it."""

    AUTO = "auto"
    OFFER = "offer"
    OFF = "off"


class Unmarked(StrEnum):
    """What happens with a session that nobody marked as attended or missed."""

    ATTENDED = "attended"
    LEAVE = "leave"


def _descending(minutes: list[int]) -> list[int]:
    """Return reminders with the earliest one first; each may be listed once."""
    if len(set(minutes)) != len(minutes):
        raise PydanticCustomError("repeated_reminder", "must name each reminder once")
    return sorted(minutes, reverse=True)


Reminder = Annotated[int, Field(ge=5, le=28 * 1440)]
Reminders = Annotated[list[Reminder], Field(max_length=5), AfterValidator(_descending)]


class BookingPolicy(RequestBody):
    """When and how sessions are booked. Every field is optional; a missing one has its default.

    The defaults are those of the organization's policy, or the ones here.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    opens_days: Annotated[int, Field(ge=1, le=730)] = 60
    """How many days ahead sessions can be booked."""
    closes_minutes: Annotated[int, Field(ge=0, le=_YEAR)] = 60
    """How many minutes before its start a session can no longer be booked."""
    notice_minutes: Annotated[int, Field(ge=0, le=_YEAR)] = 1440
    """Until how many minutes before its start a session can be cancelled without charge."""
    late_cancel: Choice[Penalty] = Penalty.BACKUP_FIRST
    """What a later cancellation costs."""
    no_show: Choice[Penalty] = Penalty.BACKUP_FIRST
    """What a session costs to which the client does not come."""
    max_open: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many sessions of one voucher may be booked at once; null is no limit."""
    slot_minutes: Annotated[int, Field(ge=5, le=240)] = 30
    """The distance between the starts that are offered, in minutes of the wall clock."""
    approval: bool = False
    """Whether the organization approves each reservation."""
    hold_minutes: Annotated[int, Field(ge=1, le=60)] = 10
    """For how many minutes a time is held while a client decides."""
    waitlist: Choice[WaitlistMode] = WaitlistMode.AUTO
    """Whether waiting clients get a free seat, an offer of it, or cannot wait."""
    reminders_minutes: Reminders = Field(default_factory=lambda: [1440, 120])
    """How many minutes before its start a session is announced; at most five."""
    settle_hours: Annotated[int, Field(ge=1, le=720)] = 48
    """How many hours after its end an unmarked session is settled."""
    unmarked: Choice[Unmarked] = Unmarked.ATTENDED
    """How an unmarked session is settled."""

    def stored(self) -> dict[str, Any]:
        """Return the fields that were sent, as they are stored: a default may change later."""
        return self.model_dump(mode="json", exclude_unset=True)


def fault_of_policy(policy: BookingPolicy) -> str | None:
    """Return what is wrong with the `closes_minutes` of an effective policy, or None."""
    if policy.closes_minutes >= policy.opens_days * 1440:
        return "must be less than opens_days in minutes, or no session can be booked"
    return None


def effective_policy(*stored: Mapping[str, Any]) -> BookingPolicy:
    """Return the policy of stored ones, of which a later one replaces fields of those before.

    First the organization's default, then the voucher's. Raises ValidationError for a stored value
    that is out of bounds, which no request can write.
    """
    fields: dict[str, Any] = {}
    for policy in stored:
        fields |= policy
    return BookingPolicy.model_validate(fields)
