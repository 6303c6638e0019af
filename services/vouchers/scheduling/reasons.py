"""The reasons for which a session cannot be booked."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class ReasonCode(StrEnum):
    """The codes of the reasons, in the order in which they are reported."""

    ORGANIZATION_INACTIVE = "organization_inactive"
    CLIENT_INACTIVE = "client_inactive"
    VOUCHER_UNPAID = "voucher_unpaid"
    VOUCHER_CANCELLED = "voucher_cancelled"
    VOUCHER_DISPUTED = "voucher_disputed"
    VOUCHER_EXHAUSTED = "voucher_exhausted"
    SESSIONS_BOOKED = "sessions_booked"
    VOUCHER_NOT_YET_VALID = "voucher_not_yet_valid"
    VOUCHER_EXPIRED = "voucher_expired"
    VOUCHER_FROZEN = "voucher_frozen"
    SESSION_CANCELLED = "session_cancelled"
    SESSION_PAST = "session_past"
    TOO_EARLY = "too_early"
    TOO_LATE = "too_late"
    WRONG_CLASS = "wrong_class"
    WRONG_SIZE = "wrong_size"
    WEEKDAY_NOT_ALLOWED = "weekday_not_allowed"
    OUTSIDE_BOOKING_RULES = "outside_booking_rules"
    FREQUENCY_REACHED = "frequency_reached"
    MAX_OPEN_REACHED = "max_open_reached"
    ALREADY_RESERVED = "already_reserved"
    CLIENT_BUSY = "client_busy"
    THERAPIST_UNAVAILABLE = "therapist_unavailable"
    SLOT_TAKEN = "slot_taken"
    ROOM_TAKEN = "room_taken"
    SESSION_FULL = "session_full"


OVERRIDABLE = frozenset(
    {
        ReasonCode.TOO_EARLY,
        ReasonCode.TOO_LATE,
        ReasonCode.WRONG_CLASS,
        ReasonCode.WEEKDAY_NOT_ALLOWED,
        ReasonCode.OUTSIDE_BOOKING_RULES,
        ReasonCode.FREQUENCY_REACHED,
        ReasonCode.MAX_OPEN_REACHED,
        ReasonCode.CLIENT_BUSY,
        ReasonCode.THERAPIST_UNAVAILABLE,
    }
)
"""What a manager of bookings may override, with a reason."""


@dataclass(frozen=True, slots=True)
class BookingReason:
    """A reason, and the first day on which it no longer holds, or None if no day is known.

    `until` is a day of the organization's clock: of today for a reason of time (`too_early`,
    `max_open_reached`), else a day for which the session can be booked.
    """

    code: ReasonCode
    detail: str
    until: date | None = None

    @property
    def is_overridable(self) -> bool:
        """Whether a manager of bookings may override the reason."""
        return self.code in OVERRIDABLE


def in_words(day: date) -> str:
    """Return a day in a sentence, such as 4 June 2026."""
    return f"{day.day} {day:%B %Y}"


def duration_in_words(minutes: int) -> str:
    """Return a duration in the largest unit that needs no fraction, such as 2 hours."""
    for noun, size in (("day", 1440), ("hour", 60), ("minute", 1)):
        if minutes % size == 0 and minutes >= size:
            return counted(minutes // size, noun)
    return counted(0, "minute")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as 1 session and 2 sessions."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
