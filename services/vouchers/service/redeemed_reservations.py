"""Reservations and the ledger: a redemption settles one, and its reversal opens it again."""

from datetime import date, datetime, time, timedelta
from typing import NoReturn
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import ReservationNotFound, ReservationSettled
from services.vouchers.models import (
    Attestation,
    PaymentStatus,
    Reason,
    Redemption,
    SessionKind,
    SessionStatus,
    Voucher,
    VoucherCode,
    VoucherStatus,
)
from services.vouchers.scheduling.snapshots import OPEN_STATUSES, ReservationStatus
from services.vouchers.schemas.redemptions import RedemptionCreate
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.charges import Charge, Evidence, Place, settle
from services.vouchers.service.locked_sessions import balance_of
from services.vouchers.service.reservations import leave, lock_place
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Invalid

_STATUSES = {
    None: ReservationStatus.ATTENDED,
    Reason.MISSED: ReservationStatus.NO_SHOW,
    Reason.LATE_CANCELLED: ReservationStatus.LATE_CANCELLED,
}
_ENDED = (VoucherStatus.PENDING, VoucherStatus.CANCELLED)


async def find_booked(
    session: AsyncSession, voucher: Voucher, zone: str, day: date, reservation_id: int | None
) -> Place | None:
    """Return the booked reservation of a locked voucher that a redemption on a day settles, or
    None.

    The day is one of the time zone. Raises ReservationNotFound, ReservationSettled, and Invalid for
    a reservation of another day, and for several on this day of which none is named.
    """
    if reservation_id is None and not voucher.booked_sessions:
        return None
    first, last = (
        datetime.combine(day + timedelta(days=number), time.min, ZoneInfo(zone))
        for number in (0, 1)
    )
    statuses = (ReservationStatus.BOOKED,)
    places = await queries.places_of_voucher(
        session, voucher, statuses=statuses, first=first, last=last
    )
    if reservation_id is not None:
        places = [place for place in places if place[0].id == reservation_id]
        if not places:
            await _refuse(session, voucher, day, reservation_id)
    if len(places) > 1:
        rule = "is needed, because the voucher has several reservations on this day"
        raise Invalid("reservation_id", rule)
    return Place(places[0][0], places[0][1], voucher) if places else None


async def _refuse(
    session: AsyncSession, voucher: Voucher, day: date, reservation_id: int
) -> NoReturn:
    """Raise the error that states why a reservation cannot be settled by a redemption."""
    reservation = await queries.get_reservation(session, reservation_id)
    if reservation.voucher_id != voucher.id:
        raise ReservationNotFound
    if reservation.status != ReservationStatus.BOOKED:
        raise ReservationSettled
    raise Invalid("reservation_id", f"must be of a session on {day}, the day of the redemption")


async def settle_by_redemption(
    session: AsyncSession,
    actor: Actor,
    place: Place,
    body: RedemptionCreate,
    kind: SessionKind,
    code: VoucherCode | None,
) -> tuple[Redemption, Voucher]:
    """Mark a booked reservation by redeeming a session of a kind; return that and the voucher.

    The reason of the redemption decides the state. A code that the client showed attests that the
    session took place; otherwise the actor does.
    """
    place = await lock_place(session, place)
    status = _STATUSES[body.reason]
    attestation = None
    if status == ReservationStatus.ATTENDED:
        attestation = Attestation.CODE if body.code else Attestation.STAFF
    if status == ReservationStatus.LATE_CANCELLED:
        place.session.seats_taken -= 1
    charge: Charge = "backup" if kind == SessionKind.BACKUP else "regular"
    evidence = Evidence(attestation, code, body.note)
    redemption = await settle(session, place, status, charge, actor.user_id, evidence=evidence)
    if status == ReservationStatus.LATE_CANCELLED:
        await leave(session, place.session)
    await flush_booking(session)
    assert redemption is not None
    assert place.voucher is not None
    return redemption, place.voucher


async def lock_reopenable(
    session: AsyncSession, voucher: Voucher, redemption: Redemption
) -> Place | None:
    """Return the reservation that a redemption of a locked voucher settled, locked, or None.

    It is None if the reservation cannot be booked again: the voucher has ended or has no session
    for it, or the client's time or the seat is taken. If another reservation has its period, its
    own is null afterwards.
    """
    if redemption.reservation_id is None or voucher.status in _ENDED:
        return None
    reservation = await queries.get_reservation(session, redemption.reservation_id)
    row = await queries.get_session(session, reservation.session_id)
    place = await lock_place(session, Place(reservation, row, voucher))
    reservation = place.reservation
    has_session = redemption.kind == SessionKind.REGULAR or voucher.bookable_sessions > 0
    if reservation.redemption_id != redemption.id or not has_session:
        return None
    is_unpaid = voucher.payment_status == PaymentStatus.REFUNDED
    if is_unpaid or await queries.has_lost_dispute(session, voucher):
        return None
    if not await _is_still_free(session, place, voucher):
        return None
    periods = await queries.periods_taken(session, voucher.organization_id, [voucher.id])
    if reservation.period in {period for _, period, number in periods if number != reservation.id}:
        reservation.period = None
    return place


async def _is_still_free(session: AsyncSession, place: Place, voucher: Voucher) -> bool:
    """Return whether the client has no other session at the time of a settled reservation.

    One that was cancelled late also needs its seat again, in a session that has not begun.
    """
    row, reservation = place.session, place.reservation
    if reservation.status == ReservationStatus.LATE_CANCELLED:
        is_open = row.status == SessionStatus.SCHEDULED and row.starts_at > now()
        if not is_open or row.seats_left < 1:
            return False
    others = await queries.reservations_that_count(
        session, voucher, row.starts_at, without_id=reservation.id
    )
    return not any(
        other.session_id == row.id
        or (
            other.status in OPEN_STATUSES
            and other.starts_at < row.ends_at
            and row.starts_at < other.ends_at
        )
        for other in others
    )


def reopen(session: AsyncSession, place: Place) -> None:
    """Book a locked reservation again whose redemption is reversed, and record it.

    Nothing is flushed: the database bounds the sessions of the voucher, which the reversal and the
    earmark change together. A timer never settles the reservation again.
    """
    reservation, voucher = place.reservation, place.voucher
    assert voucher is not None
    if reservation.status == ReservationStatus.LATE_CANCELLED:
        place.session.seats_taken += 1
    voucher.booked_sessions += 1
    reservation.status = ReservationStatus.BOOKED
    reservation.redemption_id = None
    reservation.attestation, reservation.settled_by = None, None
    reservation.settled_at = now()
    record(session, "REOPEN", reservation, **balance_of(reservation, voucher))
