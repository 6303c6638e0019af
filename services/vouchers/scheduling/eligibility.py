"""Whether a client can book a session: every reason against it, in the order of `ReasonCode`.

Pure functions of a snapshot. The first reason is the code of a refusal.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta
from itertools import chain

from services.vouchers.scheduling.day_rules import (
    reasons_of_frequency,
    reasons_of_validity,
    reasons_of_weekday,
    weekdays_of,
)
from services.vouchers.scheduling.reasons import (
    BookingReason,
    ReasonCode,
    counted,
    duration_in_words,
    in_words,
)
from services.vouchers.scheduling.snapshots import (
    OPEN_STATUSES,
    PERIOD_STATUSES,
    RESERVED_STATUSES,
    BookingSnapshot,
    RequestedSession,
    VoucherTerms,
)
from services.vouchers.scheduling.wallclock import instant_of
from services.vouchers.scheduling.windows import contains, daily_windows

_ONE_DAY = timedelta(days=1)


def reasons_against(snapshot: BookingSnapshot) -> list[BookingReason]:
    """Return every reason why the session cannot be booked, in the order of `ReasonCode`."""
    voucher = snapshot.voucher
    day = snapshot.session.starts_at.astimezone(snapshot.zone).date()
    return list(
        chain(
            _reasons_of_parties(snapshot),
            reasons_of_validity(voucher, day),
            _reasons_of_time(snapshot, day),
            _reasons_of_kind(voucher, snapshot.session),
            reasons_of_weekday(voucher, day),
            _reasons_of_hours(snapshot, day),
            reasons_of_frequency(voucher, day, days_taken(snapshot)),
            _reasons_of_client(snapshot),
            _reasons_of_availability(snapshot.session),
        )
    )


def remaining(reasons: Sequence[BookingReason], overrides: Collection[str]) -> list[BookingReason]:
    """Return the reasons that still refuse a booking if the codes in `overrides` are overridden."""
    return [
        reason for reason in reasons if not (reason.is_overridable and reason.code in overrides)
    ]


def days_taken(snapshot: BookingSnapshot) -> set[date]:
    """Return the days that count for the voucher's frequency: reserved, attended or redeemed."""
    return set(snapshot.redeemed_days) | {
        reservation.starts_at.astimezone(snapshot.zone).date()
        for reservation in snapshot.reservations
        if reservation.is_of_voucher and reservation.status in PERIOD_STATUSES
    }


def _reasons_of_parties(snapshot: BookingSnapshot) -> Iterator[BookingReason]:
    """Yield the reasons of the organization, the client, and the voucher's state and balance."""
    voucher = snapshot.voucher
    if not snapshot.is_organization_active:
        detail = "This organization is inactive and takes no bookings at the moment."
        yield BookingReason(ReasonCode.ORGANIZATION_INACTIVE, detail)
    if not snapshot.is_client_active:
        detail = "The client's account is not active. It must be approved first."
        yield BookingReason(ReasonCode.CLIENT_INACTIVE, detail)
    if voucher.status == "pending":
        detail = "The voucher is not paid. Pay it first."
        yield BookingReason(ReasonCode.VOUCHER_UNPAID, detail)
    if voucher.status == "cancelled":
        detail = "The voucher is cancelled. Use another voucher."
        yield BookingReason(ReasonCode.VOUCHER_CANCELLED, detail)
    if voucher.is_disputed:
        detail = "The payment of the voucher is disputed. Wait until the dispute is closed."
        yield BookingReason(ReasonCode.VOUCHER_DISPUTED, detail)
    if voucher.sessions_left <= 0:
        detail = "The voucher has no session left. Use another voucher."
        yield BookingReason(ReasonCode.VOUCHER_EXHAUSTED, detail)
    elif voucher.booked_sessions >= voucher.sessions_left:
        left = counted(voucher.sessions_left, "session")
        detail = f"The voucher has {left} left, and all are booked. Cancel or move one of them."
        yield BookingReason(ReasonCode.SESSIONS_BOOKED, detail)


def _reasons_of_time(snapshot: BookingSnapshot, day: date) -> Iterator[BookingReason]:
    """Yield the reasons of the session's state, and of how far ahead it is."""
    session, limits, now = snapshot.session, snapshot.limits, snapshot.now
    if session.is_cancelled:
        detail = "The session is cancelled. Choose another one."
        yield BookingReason(ReasonCode.SESSION_CANCELLED, detail)
    if session.starts_at <= now:
        detail = "The session has begun already. Choose a later one."
        yield BookingReason(ReasonCode.SESSION_PAST, detail)
        return
    ahead = timedelta(days=limits.opens_days)
    if day > now.astimezone(snapshot.zone).date() + ahead:
        most = counted(limits.opens_days, "day")
        detail = f"Sessions open {most} ahead. Book this one from {in_words(day - ahead)}."
        yield BookingReason(ReasonCode.TOO_EARLY, detail, day - ahead)
    if session.starts_at < now + timedelta(minutes=limits.closes_minutes):
        least = duration_in_words(limits.closes_minutes)
        detail = f"Sessions close {least} before they begin. Choose a later one."
        yield BookingReason(ReasonCode.TOO_LATE, detail)


def _reasons_of_kind(voucher: VoucherTerms, session: RequestedSession) -> Iterator[BookingReason]:
    """Yield the reasons of the session's class and size."""
    type_id, most = voucher.voucher_type_id, voucher.max_clients
    is_of_class = not session.class_type_ids or type_id in session.class_type_ids
    if most is None and voucher.therapy_class_id is not None and session.session_id is not None:
        is_of_class = session.therapy_class_id == voucher.therapy_class_id
    if not is_of_class:
        detail = "The voucher is not for sessions of this class. Choose another session."
        yield BookingReason(ReasonCode.WRONG_CLASS, detail)
    elif session.therapist_type_ids and type_id not in session.therapist_type_ids:
        detail = "This therapist gives no sessions of this voucher. Choose another therapist."
        yield BookingReason(ReasonCode.WRONG_CLASS, detail)
    if most is None:
        return
    if most == 1 and session.capacity != 1:
        detail = "The voucher is for sessions of one client. Choose another session."
        yield BookingReason(ReasonCode.WRONG_SIZE, detail)
    if most > 1 and not 2 <= session.capacity <= most:
        detail = f"The voucher is for sessions of 2 to {most} clients. Choose another session."
        yield BookingReason(ReasonCode.WRONG_SIZE, detail)


def _reasons_of_hours(snapshot: BookingSnapshot, day: date) -> Iterator[BookingReason]:
    """Yield the reason against a time outside of the booking rules of an allowed weekday."""
    voucher, session = snapshot.voucher, snapshot.session
    if voucher.hours is None or day.isoweekday() not in weekdays_of(voucher):
        return
    last = session.ends_at.astimezone(snapshot.zone).date()
    windows = daily_windows(voucher.hours, day - _ONE_DAY, last, snapshot.zone)
    if not contains(windows, instant_of(session.starts_at), instant_of(session.ends_at)):
        detail = "The session is not within the booking times of the voucher. Choose another time."
        yield BookingReason(ReasonCode.OUTSIDE_BOOKING_RULES, detail)


def _reasons_of_client(snapshot: BookingSnapshot) -> Iterator[BookingReason]:
    """Yield the reasons of the client's other reservations."""
    session, most = snapshot.session, snapshot.limits.max_open
    active = [item for item in snapshot.reservations if item.status in RESERVED_STATUSES]
    pending = [item for item in active if item.status in OPEN_STATUSES]
    ends = sorted(item.ends_at for item in pending if item.is_of_voucher)
    ends = [ends_at for ends_at in ends if ends_at > snapshot.now]
    if most is not None and len(ends) >= most:
        until = ends[len(ends) - most].astimezone(snapshot.zone).date()
        limit = counted(most, "session")
        detail = f"At most {limit} of this voucher can be booked at once. Cancel one, or wait."
        yield BookingReason(ReasonCode.MAX_OPEN_REACHED, detail, until)
    if any(item.session_id == session.session_id for item in active):
        detail = "The client has reserved this session already. Choose another one."
        yield BookingReason(ReasonCode.ALREADY_RESERVED, detail)
    elif any(
        item.starts_at < session.ends_at and session.starts_at < item.ends_at
        for item in pending
        if not item.may_overlap
    ):
        detail = "The client has another session at this time. Choose another time."
        yield BookingReason(ReasonCode.CLIENT_BUSY, detail)


def _reasons_of_availability(session: RequestedSession) -> Iterator[BookingReason]:
    """Yield the reasons of the therapist, the room and the seats."""
    if not session.is_therapist_available:
        detail = "The therapist does not work at this time. Choose one of the free times."
        yield BookingReason(ReasonCode.THERAPIST_UNAVAILABLE, detail)
    if not session.is_therapist_free:
        detail = "This time is taken. Choose one of the free times."
        yield BookingReason(ReasonCode.SLOT_TAKEN, detail)
    if not session.is_room_free:
        detail = "The room is taken at this time. Choose one of the free times."
        yield BookingReason(ReasonCode.ROOM_TAKEN, detail)
    if session.seats_taken >= session.capacity:
        detail = "The session is full. Choose another one, or join its waiting list."
        yield BookingReason(ReasonCode.SESSION_FULL, detail)
