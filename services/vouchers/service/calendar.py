"""Days: an organization's own, and those on which a session may take place."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.vouchers.models import Adjustment, Frequency, VoucherStatus
from services.vouchers.schemas.voucher_types import WEEKDAYS

PAUSES = {
    Frequency.DAILY.value: 1,
    Frequency.WEEKLY.value: 7,
    Frequency.BIWEEKLY.value: 14,
    Frequency.CUSTOM.value: 1,
}
"""Frequency → days from one session to the next."""


class Plan(Protocol):
    """What of a voucher says when its sessions take place: a row or an entity."""

    status: Any
    valid_from: Any
    valid_until: Any
    frequency: Any
    custom_days: Any
    booking_rules: Any


def day_in(timezone: str, instant: datetime) -> date:
    """Return which day an instant belongs to on the clock of a time zone."""
    return instant.astimezone(ZoneInfo(timezone)).date()


def today_in(timezone: str, instant: datetime) -> date:
    """Return the same for what only shows a day: where the zone is not known here, UTC's day.

    Another machine's service may know more zones than this one's.
    """
    try:
        return day_in(timezone, instant)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return instant.date()


def next_session(
    plan: Plan, today: date, last: date | None, freezes: Sequence[Adjustment]
) -> date | None:
    """Return the first day on which the next session may be, or None."""
    if plan.status != VoucherStatus.ACTIVE:
        return None
    day = max(today, plan.valid_from or today)
    if last is not None:
        day = max(day, last + timedelta(days=PAUSES.get(plan.frequency, 1)))
    while day <= plan.valid_until:
        freeze = freeze_on(day, freezes)
        if freeze is None and _is_open(plan, day):
            return day
        if not _ever_open(plan):
            return None
        day = (freeze.ends_on if freeze and freeze.ends_on else day) + timedelta(days=1)
    return None


def freeze_on(day: date, freezes: Sequence[Adjustment]) -> Adjustment | None:
    """Return the freeze that a day falls into, or None."""
    return next((freeze for freeze in freezes if _covers(freeze, day)), None)


def _covers(freeze: Adjustment, day: date) -> bool:
    assert freeze.starts_on is not None
    assert freeze.ends_on is not None
    return freeze.starts_on <= day <= freeze.ends_on


def _is_open(plan: Plan, day: date) -> bool:
    """Say whether a session may be booked on a day: without any rules, on every day."""
    if plan.custom_days and day.isoweekday() not in plan.custom_days:
        return False
    if not plan.booking_rules:
        return True
    rules = plan.booking_rules if isinstance(plan.booking_rules, dict) else {}
    rule = rules.get(WEEKDAYS[day.weekday()])
    return isinstance(rule, dict) and bool(rule.get("enabled"))


def _ever_open(plan: Plan) -> bool:
    week = (date(2024, 1, 1) + timedelta(days=number) for number in range(7))
    return any(_is_open(plan, day) for day in week)
