"""Queries of what a user who is deleted leaves behind."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import Reservation, Voucher, VoucherStatus
from services.vouchers.scheduling.snapshots import OPEN_STATUSES, ReservationStatus


async def future_reservations_of(
    session: AsyncSession, client_id: int, moment: datetime
) -> Sequence[Reservation]:
    """Return a client's open and waiting reservations of sessions that begin after a moment."""
    statement = select(Reservation).where(
        Reservation.client_id == client_id,
        Reservation.status.in_(sorted(OPEN_STATUSES | {ReservationStatus.WAITLISTED})),
        Reservation.starts_at > moment,
    )
    current = statement.execution_options(populate_existing=True)
    return (await session.scalars(current)).all()


async def list_vouchers_that_book(session: AsyncSession, client_id: int) -> Sequence[int]:
    """Return the ids of a client's vouchers that can book a session or have booked one."""
    statement = select(Voucher.id).where(
        Voucher.client_id == client_id,
        or_(Voucher.status == VoucherStatus.ACTIVE, Voucher.booked_sessions > 0),
    )
    return (await session.scalars(statement)).all()
