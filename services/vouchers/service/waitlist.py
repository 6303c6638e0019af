"""Waiting lists: a free seat goes to the first in line for whom every rule holds now.

A seat is given in the transaction that frees it, while the session is locked, so nobody else can
book it in between. The vouchers of those who wait are locked with SKIP LOCKED: nothing waits for
them, although they are locked after the session. Who is skipped stays in line, and a timer looks
at the line again.
"""

from collections.abc import Collection
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import WaitlistClosed
from services.vouchers.models import ClassSession, HeldFor, Reservation, SessionStatus, Voucher
from services.vouchers.scheduling.eligibility import reasons_against, remaining
from services.vouchers.scheduling.reasons import ReasonCode
from services.vouchers.scheduling.snapshots import RequestedSession, ReservationStatus
from services.vouchers.schemas.booking_policy import WaitlistMode
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.booking_frame import BookingFrame, frame_of, requested_session
from services.vouchers.service.locked_sessions import balance_of
from services.vouchers.service.reservation_states import (
    ReservationState,
    accepted_state,
    hold_until,
)
from services.vouchers.service.reserve import rule_columns
from shared.changes import consequence_of, record
from shared.db import Entity, now
from shared.errors import Conflict
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

OFFERED_FOR = timedelta(minutes=30)
"""How long a client may decide about a seat that is offered."""

_BATCH = 100


def overrides_to_wait(
    frame: BookingFrame,
    requested: RequestedSession,
    row: ClassSession | None,
    overrides: Collection[str],
) -> list[str] | None:
    """Return the codes of the overridden reasons if a free seat is all that is missing, else None.

    Raises WaitlistClosed if the session or the booking policy has no waiting list.
    """
    reasons = reasons_against(frame.snapshot(requested))
    refusals = [reason.code for reason in remaining(reasons, overrides)]
    if refusals != [ReasonCode.SESSION_FULL]:
        return None
    if row is None or row.on_demand or frame.policy.waitlist == WaitlistMode.OFF:
        raise WaitlistClosed
    return [reason.code.value for reason in reasons if reason.code != ReasonCode.SESSION_FULL]


async def give_seats(session: AsyncSession, row: ClassSession, cause: Entity | None = None) -> int:
    """Give the free seats of a locked session to those who wait; return their number.

    What is recorded is attributed to the system, and to the last recorded event of `cause`.
    """
    await flush_booking(session)
    if row.status != SessionStatus.SCHEDULED or row.starts_at <= now() or row.seats_left <= 0:
        return 0
    line = await queries.list_waiting(session, row.id)
    if not line:
        return 0
    requested = await requested_session(session, row)
    seats = 0
    with consequence_of(session, cause):
        for reservation_id, voucher_id in line:
            if row.seats_left == 0:
                break
            voucher = await queries.lock_idle_voucher(session, voucher_id)
            if voucher is not None:
                seats += await _give_seat(session, row, requested, reservation_id, voucher)
    return seats


async def _give_seat(
    session: AsyncSession,
    row: ClassSession,
    requested: RequestedSession,
    reservation_id: int,
    voucher: Voucher,
) -> bool:
    """Give a seat to a waiting reservation, if every rule holds; return whether it was given."""
    [reservation] = await queries.reread_reservations(session, [reservation_id])
    if reservation.status != ReservationStatus.WAITLISTED or reservation.session_id != row.id:
        return False
    frame = await frame_of(session, voucher, moved=reservation)
    reasons = reasons_against(frame.snapshot(requested))
    is_off = frame.policy.waitlist == WaitlistMode.OFF
    if is_off or remaining(reasons, reservation.overrides):
        return False
    overridden = [code for code in reservation.overrides if code in [r.code for r in reasons]]
    columns = rule_columns(voucher, frame, row.starts_at, overridden)
    try:
        async with session.begin_nested():
            row.seats_taken += 1
            voucher.booked_sessions += 1
            for name, value in columns.items():
                setattr(reservation, name, value)
            state_of_seat(frame, reservation).apply_to(reservation)
            is_offer = reservation.held_for == HeldFor.OFFER
            action = "OFFER" if is_offer else "PROMOTE"
            record(session, action, reservation, **balance_of(reservation, voucher))
            await flush_booking(session)
    except Conflict:
        # Another transaction has booked something for the client that no lock of ours covers.
        for entity in (row, voucher, reservation):
            await session.refresh(entity)
        return False
    return True


def state_of_seat(frame: BookingFrame, reservation: Reservation) -> ReservationState:
    """Return the state of a waiting reservation that is given a seat.

    As long as it can be cancelled for free it is booked; later the client decides about an offer.
    """
    free_until = reservation.starts_at - timedelta(minutes=frame.policy.notice_minutes)
    if frame.policy.waitlist == WaitlistMode.AUTO and frame.now <= free_until:
        by_client = policies.is_made_by_client(reservation)
        return accepted_state(frame, reservation.starts_at, by_client=by_client)
    return hold_until(HeldFor.OFFER, frame.now + OFFERED_FOR, reservation.starts_at)


async def give_free_seats(transactions: Transactions) -> int:
    """Give the seats that are free although clients wait for them; return their number.

    Somebody in line may have been skipped, or have become able to book since.
    """
    total, last_id = 0, 0
    while session_ids := await _list_sessions(transactions, last_id):
        for session_id in session_ids:
            async with transactions.system() as session:
                rows = await queries.lock_sessions(session, [session_id])
                total += await give_seats(session, rows[session_id])
        last_id = session_ids[-1]
    if total:
        log.info("free_seats_given", number=total)
    return total


async def _list_sessions(transactions: Transactions, after: int) -> list[int]:
    async with transactions.system() as session:
        return list(await queries.list_sessions_to_fill(session, now(), after, _BATCH))
