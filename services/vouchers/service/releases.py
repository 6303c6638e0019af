"""Release reservations whose voucher does not pay for them any more.

The vouchers are locked before; the sessions are locked here.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Reservation, Voucher
from services.vouchers.service.locked_sessions import release
from services.vouchers.service.reservations import CANCELLABLE, leave
from shared.db import now

REFUNDED = "refunded"
VOUCHER_CANCELLED = "voucher_cancelled"
UNPAID = "unpaid"


async def release_reservations(
    session: AsyncSession,
    reservations: Sequence[Reservation],
    vouchers: Mapping[int, Voucher],
    reason: str,
) -> None:
    """Cancel open and waiting reservations of locked vouchers without charge, the latest first."""
    if not reservations:
        return
    rows = await queries.lock_sessions(session, {row.session_id for row in reservations})
    current = await queries.reread_reservations(session, [row.id for row in reservations])
    for reservation in sorted(current, key=lambda row: (row.starts_at, row.id), reverse=True):
        if reservation.status in CANCELLABLE:
            voucher = vouchers.get(reservation.voucher_id or 0)
            row = rows[reservation.session_id]
            release(session, reservation, voucher, row, reason=reason)
    for row in rows.values():
        await leave(session, row)


async def places_for_refund(
    session: AsyncSession, voucher: Voucher, sessions: int
) -> list[queries.ReservationPlace]:
    """Return the reservations that a refund of sessions would release, the latest first.

    Sessions that are not booked are refunded first.
    """
    number = sessions - voucher.bookable_sessions
    if number <= 0:
        return []
    return await queries.places_of_voucher(session, voucher, limit=number)


async def release_for_refund(session: AsyncSession, voucher: Voucher, sessions: int) -> None:
    """Release reservations of a locked voucher until so many of its sessions are not booked.

    Call it before the sessions are counted as refunded: the database bounds the sum of both.
    """
    places = await places_for_refund(session, voucher, sessions)
    reservations = [reservation for reservation, _, _ in places]
    await release_reservations(session, reservations, {voucher.id: voucher}, REFUNDED)


async def release_future(session: AsyncSession, voucher: Voucher, reason: str) -> None:
    """Release the reservations of a locked voucher that was cancelled.

    Those of sessions that have begun stay booked, until somebody marks whether they took place.
    """
    places = await queries.places_of_voucher(session, voucher, statuses=CANCELLABLE, first=now())
    reservations = [reservation for reservation, _, _ in places]
    await release_reservations(session, reservations, {voucher.id: voucher}, reason)
