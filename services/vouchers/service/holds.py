"""Use cases of held reservations: confirm them, and end those that nobody confirmed in time."""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import HoldLapsed, ReservationSettled
from services.vouchers.models import HeldFor, Reservation
from services.vouchers.scheduling.eligibility import reasons_against
from services.vouchers.scheduling.reasons import ReasonCode
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.schemas.reservations import ReservationResult
from services.vouchers.service.booking import refusal_of
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.booking_frame import BookingFrame, frame_of, requested_session
from services.vouchers.service.charges import Place
from services.vouchers.service.locked_sessions import balance_of, release
from services.vouchers.service.reservation_states import BOOKED, LAPSED, accepted_state
from services.vouchers.service.reservations import (
    get_visible_place,
    leave,
    lock_place,
    place_of,
    require_not_lapsed,
    result_of,
)
from shared.actors import Actor, permission_missing
from shared.changes import record
from shared.db import now
from shared.failpoints import failpoint
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 100

_LASTING = frozenset(
    {
        ReasonCode.ORGANIZATION_INACTIVE,
        ReasonCode.CLIENT_INACTIVE,
        ReasonCode.VOUCHER_UNPAID,
        ReasonCode.VOUCHER_CANCELLED,
        ReasonCode.VOUCHER_DISPUTED,
        ReasonCode.VOUCHER_EXPIRED,
        ReasonCode.SESSION_CANCELLED,
        ReasonCode.SESSION_PAST,
    }
)
"""The reasons against a confirmation. The others were judged when the time was held: a hold
promises, for instance, that it does not become too late."""


async def confirm(session: AsyncSession, actor: Actor, reservation_id: int) -> ReservationResult:
    """Confirm a held reservation: book it, or request the approval of the organization.

    Raises ReservationNotFound, Forbidden, ReservationSettled, HoldLapsed, and the Conflict of the
    first reason that came up since.
    """
    visible = await get_visible_place(session, actor, reservation_id)
    place = await lock_place(session, visible)
    reservation, voucher = place.reservation, place.voucher
    require_confirmable(actor, reservation)
    failpoint("confirmation.locked")
    if voucher is None:
        BOOKED.apply_to(reservation)
    else:
        frame = await frame_of(session, voucher, moved=reservation)
        await _require_valid(session, frame, place)
        state = BOOKED
        if reservation.held_for != HeldFor.APPROVAL:
            is_booker = reservation.booked_by == actor.user_id
            by_client = is_booker and policies.is_own(actor, reservation)
            state = accepted_state(frame, reservation.starts_at, by_client=by_client)
        state.apply_to(reservation)
    record(session, "CONFIRM", reservation, **balance_of(reservation, voucher))
    await flush_booking(session)
    failpoint("confirmation.written")
    return await result_of(session, place)


def require_confirmable(actor: Actor, reservation: Reservation) -> None:
    """Raise Forbidden, HoldLapsed or ReservationSettled unless the actor may confirm it now."""
    if not policies.can_confirm(actor, reservation):
        raise permission_missing(policies.MANAGE_BOOKINGS)
    is_lapsed = reservation.reason == LAPSED
    if reservation.status == ReservationStatus.CANCELLED and is_lapsed:
        raise HoldLapsed
    if reservation.status != ReservationStatus.HELD:
        raise ReservationSettled
    require_not_lapsed(reservation)


async def _require_valid(session: AsyncSession, frame: BookingFrame, place: Place) -> None:
    """Raise the Conflict of the first lasting reason against a reservation."""
    requested = await requested_session(session, place.session)
    reasons = reasons_against(frame.snapshot(requested))
    if refusals := [reason for reason in reasons if reason.code in _LASTING]:
        raise refusal_of(refusals, ())


async def lapse_holds(transactions: Transactions, instant: datetime | None = None) -> int:
    """Cancel every reservation that is held until a time that is over; return their number.

    So are those that still wait for a seat in a session that has begun.
    """
    instant = instant or now()
    total, last_id = 0, 0
    while reservation_ids := await _list_lapsed(transactions, instant, last_id):
        for reservation_id in reservation_ids:
            total += await _lapse(transactions, reservation_id, instant)
        last_id = reservation_ids[-1]
    if total:
        log.info("holds_lapsed", number=total)
    return total


async def _list_lapsed(transactions: Transactions, instant: datetime, after: int) -> list[int]:
    async with transactions.system() as session:
        return list(await queries.list_lapsed_ids(session, instant, after, BATCH))


async def _lapse(transactions: Transactions, reservation_id: int, instant: datetime) -> bool:
    """Cancel a reservation unless it was confirmed, cancelled or moved meanwhile."""
    try:
        async with transactions.system() as session:
            reservation = await queries.get_reservation(session, reservation_id)
            place = await lock_place(session, await place_of(session, reservation))
            if not _is_lapsed(place.reservation, instant):
                return False
            release(session, place.reservation, place.voucher, place.session, reason=LAPSED)
            await leave(session, place.session, place.reservation)
    except ReservationSettled:
        return False
    return True


def _is_lapsed(reservation: Reservation, instant: datetime) -> bool:
    if reservation.status == ReservationStatus.WAITLISTED:
        return reservation.starts_at <= instant
    held_until = reservation.held_until
    return held_until is not None and held_until <= instant
