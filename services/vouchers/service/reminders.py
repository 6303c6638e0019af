"""Reminders of reservations: a timer plans them, and reports those that are due as events.

They are planned by a timer and not by the use cases that book, move or cancel, so that none of
these can forget them: a booked reservation whose `reminders_for` is not its start has none yet.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from services.vouchers import queries
from services.vouchers.models import Reminder
from services.vouchers.queries import DueReminder, UnplannedReservation
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.schemas.booking_policy import effective_policy
from services.vouchers.service.locked_sessions import balance_of
from shared.changes import record
from shared.db import now
from shared.transactions import Transactions

BATCH = 500
_HISTORY = timedelta(days=30)


async def plan_reminders(transactions: Transactions, moment: datetime | None = None) -> int:
    """Plan the reminders of reservations that were booked or moved; return their number."""
    moment = moment or now()
    total = 0
    while number := await _plan_batch(transactions, moment):
        total += number
    return total


async def _plan_batch(transactions: Transactions, moment: datetime) -> int:
    async with transactions.system() as session:
        rows = await queries.lock_unplanned_reservations(session, moment, BATCH)
        if rows:
            reminders = [reminder for row in rows for reminder in _reminders_of(row)]
            reservations = [row.reservation for row in rows]
            await queries.replace_reminders(session, reservations, reminders)
    return len(rows)


def _reminders_of(row: UnplannedReservation) -> Iterator[Reminder]:
    """Yield the reminders of a reservation that were not due already when it was made or moved."""
    policy = effective_policy(row.default_policy or {}, row.voucher_policy or {})
    reservation = row.reservation
    for minutes in policy.reminders_minutes:
        due_at = reservation.starts_at - timedelta(minutes=minutes)
        if due_at > reservation.updated_at:
            yield Reminder(
                organization_id=reservation.organization_id,
                reservation_id=reservation.id,
                minutes_before=minutes,
                due_at=due_at,
            )


async def report_due_reminders(transactions: Transactions, moment: datetime | None = None) -> int:
    """Record an event for each reminder that is due; return the number of events.

    The event and the mark of the reminder are one transaction, so there is exactly one event.
    """
    moment = moment or now()
    total = 0
    while True:
        async with transactions.system() as session:
            rows = await queries.lock_due_reminders(session, moment, BATCH)
            latest = {row.reservation.id: row for row in rows if _is_valid(row, moment)}
            for row in rows:
                if latest.get(row.reservation.id) is row:
                    row.reminder.sent_at = moment
                    details = balance_of(row.reservation, row.voucher)
                    minutes = row.reminder.minutes_before
                    record(session, "REMIND", row.reservation, minutes_before=minutes, **details)
                else:
                    # Of a place that was cancelled or moved, or late: the next one is due as well.
                    await session.delete(row.reminder)
        total += len(latest)
        if len(rows) < BATCH:
            return total


def _is_valid(row: DueReminder, moment: datetime) -> bool:
    """Return whether a reminder is of a place that the client has, at a start in the future."""
    reservation, reminder = row.reservation, row.reminder
    due_at = reservation.starts_at - timedelta(minutes=reminder.minutes_before)
    is_booked = reservation.status == ReservationStatus.BOOKED
    return is_booked and reservation.starts_at > moment and reminder.due_at == due_at


async def delete_history(transactions: Transactions) -> None:
    """Delete the reminders that were sent 30 days ago."""
    async with transactions.system() as session:
        await queries.delete_sent_reminders(session, now() - _HISTORY)
