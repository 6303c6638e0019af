"""Queries of reservations that nobody marked as attended or missed."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Integer, Interval, Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import BookingSettings, Reservation, Voucher
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.schemas.booking_policy import BookingPolicy, Unmarked

_LEAST_AGE = timedelta(hours=1)
"""The least `settle_hours` of a booking policy. The index of booked reservations needs a bound."""


async def list_unmarked_ids(
    session: AsyncSession, moment: datetime, after: int, limit: int
) -> Sequence[int]:
    """Return the ids above `after` of the booked reservations that a timer is to settle.

    Their session ended more than `settle_hours` before the moment, and `unmarked` of the booking
    policy states that they count as attended. Those that were settled before are left out.
    """
    hours = cast(_policy_value("settle_hours"), Integer)
    age = func.make_interval(0, 0, 0, 0, hours, type_=Interval)
    statement = (
        select(Reservation.id)
        .outerjoin(Voucher, Voucher.id == Reservation.voucher_id)
        .outerjoin(BookingSettings, BookingSettings.organization_id == Reservation.organization_id)
        .where(
            Reservation.id > after,
            Reservation.status == ReservationStatus.BOOKED,
            Reservation.settled_at.is_(None),
            Reservation.ends_at < moment - _LEAST_AGE,
            Reservation.ends_at + age < moment,
            _policy_value("unmarked") == Unmarked.ATTENDED.value,
        )
        .order_by(Reservation.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


def _policy_value(name: str) -> ColumnElement[str]:
    """Return a field of the effective booking policy of a reservation's voucher, as text."""
    default = str(BookingPolicy.model_fields[name].default)
    return func.coalesce(
        func.jsonb_extract_path_text(Voucher.booking_policy, name, type_=Text),
        func.jsonb_extract_path_text(BookingSettings.default_policy, name, type_=Text),
        default,
    )
