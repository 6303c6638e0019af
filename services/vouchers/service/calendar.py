"""The day in an organization's time zone, and the days on which a session may take place."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.vouchers.models import WEEKDAYS, Adjustment, Frequency, VoucherStatus

DAYS_BETWEEN_SESSIONS: dict[str, int] = {
    Frequency.DAILY: 1,
    Frequency.WEEKLY: 7,
    Frequency.BIWEEKLY: 14,
    Frequency.CUSTOM: 1,
}
"""The days from one session to the next, by frequency."""


class SessionPlan(Protocol):
    """The columns of a voucher that decide when its sessions may take place."""

    status: Any
    valid_from: Any
    valid_until: Any
    frequency: Any
    custom_days: Any
    booking_rules: Any


def day_in(timezone: str, instant: datetime) -> date:
    """Return the day of an instant in a time zone.

    Raises ZoneInfoNotFoundError, ValueError or OSError for a zone that is unknown here.
    """
    return instant.astimezone(ZoneInfo(timezone)).date()


def today_in(timezone: str, instant: datetime) -> date:
    """Return the day of an instant in a time zone, or in UTC if the zone is unknown here.

    For display only. The organizations service may run on a machine that has more time zones.
    """
    try:
        return day_in(timezone, instant)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return instant.date()


def next_session(
    plan: SessionPlan, today: date, last: date | None, freezes: Sequence[Adjustment]
) -> date | None:
    """Return the first day on which the next session may take place, or None."""
    if plan.status != VoucherStatus.ACTIVE:
        return None
    day = max(today, plan.valid_from or today)
    if last is not None:
        day = max(day, last + timedelta(days=DAYS_BETWEEN_SESSIONS.get(plan.frequency, 1)))
    while day <= plan.valid_until:
        freeze = freeze_on(day, freezes)
        if freeze is None and _is_open(plan, day):
            return day
        if not _has_open_day(plan):
            return None
        day = (freeze.ends_on if freeze and freeze.ends_on else day) + timedelta(days=1)
    return None


def freeze_on(day: date, freezes: Sequence[Adjustment]) -> Adjustment | None:
    """Return the freeze that contains a day, or None."""
    for freeze in freezes:
        assert freeze.starts_on is not None
        assert freeze.ends_on is not None
        if freeze.starts_on <= day <= freeze.ends_on:
            return freeze
    return None


def _is_open(plan: SessionPlan, day: date) -> bool:
    """Return whether a session may be booked on a day. Without rules, every day is open."""
    if plan.custom_days and day.isoweekday() not in plan.custom_days:
        return False
    if not plan.booking_rules:
        return True
    rules = plan.booking_rules if isinstance(plan.booking_rules, dict) else {}
    rule = rules.get(WEEKDAYS[day.weekday()])
    return isinstance(rule, dict) and bool(rule.get("enabled"))


def _has_open_day(plan: SessionPlan) -> bool:
    """Return whether any weekday is open."""
    week = (date(2024, 1, 1) + timedelta(days=number) for number in range(7))
    return any(_is_open(plan, day) for day in week)
