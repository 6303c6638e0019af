"""Days in the organization's time zone, and the days on which a session may take place."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pytest

from services.vouchers.models import Adjustment
from services.vouchers.service.calendar import day_in, next_session

OPEN = {"enabled": True, "start_time": "09:00", "end_time": "17:00"}
MONDAY = date(2026, 6, 1)


@dataclass
class Plan:
    """The terms of a voucher that `next_session` reads."""

    frequency: str | None = "weekly"
    custom_days: list[int] | None = None
    booking_rules: dict[str, Any] = field(default_factory=dict)
    status: str = "active"
    valid_from: date | None = MONDAY
    valid_until: date = date(2026, 8, 31)


@pytest.mark.parametrize(
    ("zone", "instant", "day"),
    [
        ("UTC", datetime(2026, 3, 28, 23, 59, 59, tzinfo=UTC), date(2026, 3, 28)),
        # 29 March 2026 has 23 hours in Warsaw, 25 October has 25.
        ("Europe/Warsaw", datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC), date(2026, 3, 28)),
        ("Europe/Warsaw", datetime(2026, 3, 28, 23, 0, tzinfo=UTC), date(2026, 3, 29)),
        ("Europe/Warsaw", datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC), date(2026, 3, 29)),
        ("Europe/Warsaw", datetime(2026, 3, 29, 22, 0, tzinfo=UTC), date(2026, 3, 30)),
        ("Europe/Warsaw", datetime(2026, 10, 24, 22, 0, tzinfo=UTC), date(2026, 10, 25)),
        ("Europe/Warsaw", datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC), date(2026, 10, 25)),
        ("Europe/Warsaw", datetime(2026, 10, 25, 23, 0, tzinfo=UTC), date(2026, 10, 26)),
        ("Pacific/Kiritimati", datetime(2026, 1, 1, 10, 0, tzinfo=UTC), date(2026, 1, 2)),
        ("Pacific/Niue", datetime(2026, 1, 1, 10, 59, tzinfo=UTC), date(2025, 12, 31)),
    ],
)
def test_an_instant_belongs_to_the_day_of_its_clock(
    zone: str, instant: datetime, day: date
) -> None:
    assert day_in(zone, instant) == day


@pytest.mark.parametrize(
    ("plan", "today", "last", "expected"),
    [
        (Plan(), MONDAY, None, MONDAY),
        (Plan(), date(2026, 5, 1), None, MONDAY),
        (Plan(), MONDAY, MONDAY, date(2026, 6, 8)),
        (Plan("daily"), MONDAY, MONDAY, date(2026, 6, 2)),
        (Plan("biweekly"), MONDAY, MONDAY, date(2026, 6, 15)),
        (Plan("custom", [3, 5]), MONDAY, MONDAY, date(2026, 6, 3)),
        (Plan(None), MONDAY, MONDAY, date(2026, 6, 2)),
        (Plan(booking_rules={"friday": OPEN}), MONDAY, None, date(2026, 6, 5)),
        (Plan(booking_rules={"friday": {"enabled": False}}), MONDAY, None, None),
        (Plan("custom", [1], {"friday": OPEN}), MONDAY, None, None),
        (Plan(), date(2026, 9, 1), None, None),
        (Plan(status="completed"), MONDAY, None, None),
    ],
)
def test_the_next_session(
    plan: Plan, today: date, last: date | None, expected: date | None
) -> None:
    assert next_session(plan, today, last, []) == expected


def test_the_next_session_is_after_a_freeze() -> None:
    freeze = Adjustment(starts_on=date(2026, 5, 30), ends_on=date(2026, 6, 10))
    assert next_session(Plan(), MONDAY, None, [freeze]) == date(2026, 6, 11)
