"""A session that is bought together with its voucher: held until the voucher is paid."""

from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.models import Voucher, VoucherStatus
from services.vouchers.schemas.reservations import (
    ReservationCreate,
    ReservationResult,
    SessionChoice,
)
from services.vouchers.service import booking
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.booking_frame import BookingFrame, frame_of
from services.vouchers.service.locked_sessions import balance_of, release
from services.vouchers.service.releases import UNPAID
from services.vouchers.service.reservation_states import accepted_state
from services.vouchers.service.reservations import leave, place_of, result_of
from services.vouchers.service.reserve import rule_columns
from shared.actors import Actor
from shared.changes import record


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """The session that a buyer wants to have with the voucher."""

    actor: Actor
    choice: SessionChoice


async def hold_session(session: AsyncSession, voucher_id: int, order: SessionOrder) -> Voucher:
    """Hold a session with a pending voucher that was just written; return it, detached.

    The session is judged as if the voucher were paid today, and held until it begins: a voucher
    that is not paid in time is cancelled, and releases it. Raises Forbidden, SessionNotFound,
    StartOffGrid, TooManyHolds, and the Conflict of the first reason against it.
    """
    voucher, _ = await queries.lock_voucher_with_zone(session, voucher_id)
    frame = _as_if_paid(await frame_of(session, voucher), voucher)
    wish = order.choice.model_dump(mode="json") | {"hold": True}
    body = ReservationCreate.model_validate(wish)
    await booking.book_with(session, order.actor, voucher, frame, body)
    return voucher


def _as_if_paid(frame: BookingFrame, voucher: Voucher) -> BookingFrame:
    today = frame.now.astimezone(frame.zone).date()
    days = timedelta(days=(voucher.validity_days or 1) - 1)
    terms = replace(
        frame.terms, status=VoucherStatus.ACTIVE, valid_from=today, valid_until=today + days
    )
    return replace(frame, terms=terms)


async def confirm_paid(session: AsyncSession, voucher: Voucher) -> None:
    """Confirm what was held for a voucher that has just been paid: book it, or request approval.

    The voucher is detached, and locked or just written. Its period counts from its first day.
    """
    for reservation in await queries.lock_open_reservations_of(session, voucher):
        frame = await frame_of(session, voucher, moved=reservation)
        if reservation.held_until is None or reservation.held_until <= frame.now:
            continue
        by_client = policies.is_made_by_client(reservation)
        accepted_state(frame, reservation.starts_at, by_client=by_client).apply_to(reservation)
        columns = rule_columns(voucher, frame, reservation.starts_at, reservation.overrides)
        reservation.period = columns["period"]
        record(session, "CONFIRM", reservation, **balance_of(reservation, voucher))
        await flush_booking(session)


async def release_unpaid(session: AsyncSession, voucher_id: int) -> None:
    """Release what is held for a locked voucher that is not paid; it is to be cancelled."""
    voucher = await queries.lock_voucher(session, voucher_id)
    reservations = await queries.lock_open_reservations_of(session, voucher)
    rows = await queries.lock_sessions(session, [r.session_id for r in reservations])
    for reservation in reservations:
        row = rows[reservation.session_id]
        release(session, reservation, voucher, row, reason=UNPAID)
        await leave(session, row, reservation)
    await flush_booking(session)


async def find_result(session: AsyncSession, voucher_id: int) -> ReservationResult | None:
    """Return the reservation that was made together with a voucher, or None."""
    reservation = await queries.find_first_reservation(session, voucher_id)
    if reservation is None:
        return None
    return await result_of(session, await place_of(session, reservation))
