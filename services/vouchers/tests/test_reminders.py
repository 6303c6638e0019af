"""Reminders: planned by the booking policy, reported once, and never for a place that is gone."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.vouchers.service.reminders import plan_reminders, report_due_reminders
from services.vouchers.tests.practice import THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def start_of(days: int) -> datetime:
    """Return ten o'clock of a day from today, in UTC: differences are elapsed time then."""
    return at(days).astimezone(UTC)


async def booked(practice: Practice, start: datetime, **policy: Any) -> dict[str, Any]:
    """Book a session at a time with a new voucher and a new therapist."""
    await practice.add_therapist()
    voucher = await practice.voucher(booking_policy=policy)
    return await practice.booked(voucher["id"], starts_at=start, therapist_id=THERAPIST)


async def due_times(database: Database) -> list[datetime]:
    """Return when reminders are due, in order."""
    rows = await database.rows("SELECT due_at FROM reminders ORDER BY due_at")
    return [row["due_at"] for row in rows]


async def reminded(database: Database) -> list[int]:
    """Return the minutes of the published reminders."""
    return [
        event["data"]["new_values"]["minutes_before"]
        for event in await database.events()
        if event["type"] == "vouchers.reservation.reminder_due.v1"
    ]


async def test_reminders_follow_the_policy(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start = start_of(3)
    reservation = await booked(practice, start, reminders_minutes=[60, 1440])
    assert await plan_reminders(transactions) == 1
    assert await plan_reminders(transactions) == 0
    assert await due_times(database) == [start - DAY, start - timedelta(hours=1)]
    assert await report_due_reminders(transactions, start - DAY - MINUTE) == 0
    assert await report_due_reminders(transactions, start - DAY) == 1
    assert await report_due_reminders(transactions, start - MINUTE) == 1
    assert await report_due_reminders(transactions, start - MINUTE) == 0
    assert await reminded(database) == [1440, 60]
    [row] = await database.rows("SELECT version FROM reservations")
    assert row["version"] == reservation["version"]


async def test_reminders_that_would_be_late_are_not_planned(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start = start_of(2)
    await booked(practice, start, reminders_minutes=[4000, 60])
    await plan_reminders(transactions)
    assert await due_times(database) == [start - timedelta(hours=1)]


async def test_no_reminders_are_a_plan_too(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    await booked(practice, start_of(3), reminders_minutes=[])
    assert [await plan_reminders(transactions) for _ in range(2)] == [1, 0]
    assert await due_times(database) == []


async def test_a_moved_reservation_has_new_reminders(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start, later = start_of(3), start_of(5)
    reservation = await booked(practice, start)
    await plan_reminders(transactions)
    await report_due_reminders(transactions, start - DAY)
    path = f"/api/reservations/{reservation['id']}/reschedule"
    body = {"starts_at": later.isoformat(), "therapist_id": THERAPIST}
    await send(practice.client, "POST", path, practice.people.client, body)
    # The one that is left of the former start is never reported.
    assert await report_due_reminders(transactions, start - MINUTE) == 0
    assert await plan_reminders(transactions) == 1
    assert await due_times(database) == [later - DAY, later - timedelta(hours=2)]
    assert await report_due_reminders(transactions, later - DAY) == 1
    assert await reminded(database) == [1440, 1440]


async def test_a_cancelled_reservation_has_none(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start = start_of(3)
    reservation = await booked(practice, start)
    await plan_reminders(transactions)
    path = f"/api/reservations/{reservation['id']}/cancel"
    await send(practice.client, "POST", path, practice.people.client)
    assert await report_due_reminders(transactions, start - MINUTE) == 0
    assert await due_times(database) == []
    assert await reminded(database) == []


async def test_after_an_outage_only_the_last_one_is_reported(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start = start_of(3)
    await booked(practice, start)
    await plan_reminders(transactions)
    assert await report_due_reminders(transactions, start - MINUTE) == 1
    assert await report_due_reminders(transactions, start + MINUTE) == 0
    assert await reminded(database) == [120]


async def test_nobody_is_reminded_of_a_session_that_has_begun(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start = start_of(3)
    await booked(practice, start)
    await plan_reminders(transactions)
    assert await report_due_reminders(transactions, start + MINUTE) == 0
    assert await reminded(database) == []


async def test_two_workers_report_a_reminder_once(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    start = start_of(3)
    await booked(practice, start)
    planned = await asyncio.gather(*(plan_reminders(transactions) for _ in range(4)))
    assert sum(planned) == 1
    moment = start - DAY
    reported = await asyncio.gather(*(report_due_reminders(transactions, moment) for _ in range(4)))
    assert sum(reported) == 1
    assert await reminded(database) == [1440]
