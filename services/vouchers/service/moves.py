"""The move of a reservation to another session."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import AlreadyReserved
from services.vouchers.models import ClassSession, Reservation, Voucher
from services.vouchers.schemas.reservations import SessionChoice
from services.vouchers.service import booking
from services.vouchers.service.booking_conflicts import flush_booking, send_booking
from services.vouchers.service.booking_frame import BookingFrame
from services.vouchers.service.reservation_states import rescheduled_hold
from services.vouchers.service.reserve import Target, add_session, rule_columns
from shared.detached import detached
from shared.writes import Writes


async def lock_move(
    session: AsyncSession, frame: BookingFrame, choice: SessionChoice, reservation: Reservation
) -> tuple[Target, ClassSession]:
    """Return where a reservation is to be moved and its present session, both locked.

    Raises SessionNotFound, and AlreadyReserved for the session that the reservation is for.
    """
    if choice.session_id is not None:
        if choice.session_id == reservation.session_id:
            raise AlreadyReserved
        # In the order of their ids, before the target is read.
        await queries.lock_sessions(session, [choice.session_id, reservation.session_id])
    old = await queries.get_session(session, reservation.session_id)
    # The time of a session on demand becomes free by the move.
    without = old.id if old.on_demand else None
    target = await booking.find_target(
        session, frame, choice, locked=True, without_session_id=without
    )
    rows = await queries.lock_sessions(session, [old.id])
    return target, rows[old.id]


async def move(
    session: AsyncSession,
    frame: BookingFrame,
    reservation: Reservation,
    voucher: Voucher,
    target: Target,
    old: ClassSession,
) -> ClassSession:
    """Move a reservation to a session that was judged, and return that session.

    A session that is made for it is detached.
    """
    old.seats_taken -= 1
    if old.on_demand and old.seats_taken == 0:
        await queries.delete_occupations(session, [old.id])
    if target.row is None:
        writes = Writes(session)
        added = add_session(writes, frame, target, seats_taken=1)
        await send_booking(writes)
        row = detached(ClassSession, added.values)
    else:
        row = target.row
        row.seats_taken += 1
    reservation.held_until = rescheduled_hold(reservation, row.starts_at)
    reservation.session_id = row.id
    reservation.starts_at, reservation.ends_at = row.starts_at, row.ends_at
    for name, value in rule_columns(voucher, frame, row.starts_at, ()).items():
        setattr(reservation, name, value)
    await flush_booking(session)
    return row
