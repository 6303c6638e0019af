"""What the rules of booking read: plain values of one moment, without a database."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from services.vouchers.scheduling.windows import WeeklyHours


class ReservationStatus(StrEnum):
    """The states of a client's reservation of a session."""

    WAITLISTED = "waitlisted"
    HELD = "held"
    BOOKED = "booked"
    ATTENDED = "attended"
    NO_SHOW = "no_show"
    LATE_CANCELLED = "late_cancelled"
    CANCELLED = "cancelled"


OPEN_STATUSES = frozenset({ReservationStatus.HELD, ReservationStatus.BOOKED})
"""A session of the voucher is earmarked, and the client is busy."""

PERIOD_STATUSES = OPEN_STATUSES | {ReservationStatus.ATTENDED}
"""The reservation counts for its period; a missed or cancelled one does not."""

RESERVED_STATUSES = PERIOD_STATUSES | {ReservationStatus.WAITLISTED}
"""The client has a seat in the session, or waits for one."""


class BookingLimits(Protocol):
    """The parts of a booking policy that decide whether a session can be booked."""

    @property
    def opens_days(self) -> int:
        """How many days ahead a session can be booked."""

    @property
    def closes_minutes(self) -> int:
        """How many minutes before its start a session can no longer be booked."""

    @property
    def max_open(self) -> int | None:
        """How many sessions of a voucher may be booked at once; None is no limit."""


@dataclass(frozen=True, slots=True)
class VoucherTerms:
    """A voucher's state and terms.

    `sessions_left` are its regular sessions that are neither used nor refunded, and
    `booked_sessions` those of them that are earmarked. `freezes` are first and last days. `hours`
    are its booking rules in the organization's zone, None without rules. `max_clients` is None in
    vouchers of version 1, which are for the sessions of their class.
    """

    status: str
    is_disputed: bool
    sessions_left: int
    booked_sessions: int
    valid_from: date | None
    valid_until: date | None
    freezes: Sequence[tuple[date, date]] = ()
    frequency: str | None = None
    custom_days: Collection[int] | None = None
    hours: Sequence[WeeklyHours] | None = None
    max_clients: int | None = None
    voucher_type_id: int | None = None
    therapy_class_id: int | None = None


@dataclass(frozen=True, slots=True)
class RequestedSession:
    """The session that a client wants: one that exists, or one on demand with `session_id` None.

    `class_type_ids` are the voucher types of its class, `therapist_type_ids` those of its
    therapist; an empty collection allows every type. `is_therapist_available`, `is_therapist_free`
    and `is_room_free` are the results of the opening times and of the occupations; they are true
    for a session that exists, because it has its therapist and room already.
    """

    starts_at: datetime
    ends_at: datetime
    capacity: int = 1
    seats_taken: int = 0
    session_id: int | None = None
    is_cancelled: bool = False
    therapy_class_id: int | None = None
    class_type_ids: Collection[int] = ()
    therapist_type_ids: Collection[int] = ()
    is_therapist_available: bool = True
    is_therapist_free: bool = True
    is_room_free: bool = True


@dataclass(frozen=True, slots=True)
class ClientReservation:
    """A reservation of the same client in the same organization.

    `is_of_voucher` is true if the voucher of the snapshot pays for it.
    """

    session_id: int
    status: str
    starts_at: datetime
    ends_at: datetime
    is_of_voucher: bool
    may_overlap: bool = False


@dataclass(frozen=True, slots=True)
class BookingSnapshot:
    """All that decides whether a client can book a session with a voucher, at the time `now`.

    `zone` is the organization's. `redeemed_days` are the days of the voucher's regular redemptions
    that were not reversed and have no reason: those of missed sessions free their period. A
    reservation that is moved is contained neither in `reservations` nor in `booked_sessions`, and
    its redemption, if it has one, not in `redeemed_days`.
    """

    now: datetime
    zone: ZoneInfo
    is_organization_active: bool
    is_client_active: bool
    voucher: VoucherTerms
    limits: BookingLimits
    session: RequestedSession
    reservations: Sequence[ClientReservation] = ()
    redeemed_days: Collection[date] = ()
