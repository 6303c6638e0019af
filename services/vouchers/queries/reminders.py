"""Queries of reminders."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import BookingSettings, Reminder, Reservation, Voucher
from services.vouchers.scheduling.snapshots import ReservationStatus
from shared.connections import fetch

_PLANNED = "UPDATE reservations SET reminders_for = starts_at WHERE id = ANY($1)"


@dataclass(frozen=True, slots=True)
class UnplannedReservation:
    """A booked reservation, and the policies by which its reminders are planned."""

    reservation: Reservation
    voucher_policy: dict[str, Any] | None
    default_policy: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class DueReminder:
    """A reminder that is due, its reservation, both locked, and the voucher."""

    reminder: Reminder
    reservation: Reservation
    voucher: Voucher | None


async def lock_unplanned_reservations(
    session: AsyncSession, moment: datetime, limit: int
) -> list[UnplannedReservation]:
    """Return booked reservations after a moment without reminders for their start, locked.

    Those that another transaction has locked are left out.
    """
    statement = (
        select(Reservation, Voucher.booking_policy, BookingSettings.default_policy)
        .outerjoin(Voucher, Voucher.id == Reservation.voucher_id)
        .outerjoin(BookingSettings, BookingSettings.organization_id == Reservation.organization_id)
        .where(
            # A constant: a plan for any parameter could not use the partial index.
            Reservation.status == literal_column(f"'{ReservationStatus.BOOKED}'"),
            Reservation.starts_at > moment,
            Reservation.reminders_for.is_distinct_from(Reservation.starts_at),
        )
        .order_by(Reservation.starts_at, Reservation.id)
        .limit(limit)
        .with_for_update(of=Reservation, key_share=True, skip_locked=True)
    )
    return [UnplannedReservation(*row) for row in await session.execute(statement)]


async def replace_reminders(
    session: AsyncSession, reservations: Collection[Reservation], reminders: Sequence[Reminder]
) -> None:
    """Replace the reminders of locked reservations, which are planned for their start then.

    Below the ORM: a reservation gets no new version by its reminders.
    """
    keys = [(reservation.organization_id, reservation.id) for reservation in reservations]
    column = tuple_(Reminder.organization_id, Reminder.reservation_id)
    await session.execute(delete(Reminder).where(column.in_(keys)))
    session.add_all(reminders)
    await session.flush()
    await fetch(session, _PLANNED, [number for _, number in keys])


async def lock_due_reminders(
    session: AsyncSession, moment: datetime, limit: int
) -> list[DueReminder]:
    """Return reminders that are due at a moment, with their reservations locked.

    Those that another transaction has locked are left out.
    """
    statement = (
        select(Reminder, Reservation, Voucher)
        .join(
            Reservation,
            and_(
                Reservation.organization_id == Reminder.organization_id,
                Reservation.id == Reminder.reservation_id,
            ),
        )
        .outerjoin(Voucher, Voucher.id == Reservation.voucher_id)
        .where(Reminder.sent_at.is_(None), Reminder.due_at <= moment)
        .order_by(Reminder.due_at)
        .limit(limit)
        .with_for_update(of=(Reminder, Reservation), key_share=True, skip_locked=True)
    )
    return [DueReminder(*row) for row in await session.execute(statement)]


async def delete_sent_reminders(session: AsyncSession, before: datetime) -> None:
    """Delete reminders that were sent before a moment."""
    await session.execute(delete(Reminder).where(Reminder.sent_at < before))
