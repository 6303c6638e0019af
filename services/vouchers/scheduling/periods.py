"""Frequency: the calendar period that a session counts for. One session of a voucher in each."""

from datetime import date, timedelta

_WEEKS = {"weekly": 1, "biweekly": 2}
"""The ISO weeks of a period, by frequency. Every other frequency has periods of a day."""


def week_of(day: date) -> int:
    """Return the number of a day's ISO week, counted from the week of 0001-01-01.

    The count goes on over New Year, so that week 53 and the week after it need no rule.
    """
    return (day.toordinal() - 1) // 7


def period_of(frequency: str | None, day: date, valid_from: date | None) -> int | None:
    """Return the number of the period that contains a day, or None if there is no frequency.

    Daily and custom: the day. Weekly: the ISO week. Biweekly: ISO weeks in pairs, counted from the
    week of `valid_from`; pairs before it have negative numbers. A voucher that is not valid yet has
    no `valid_from`: its pairs are counted from week 0.
    """
    if frequency is None:
        return None
    weeks = _WEEKS.get(frequency)
    if weeks is None:
        return day.toordinal()
    return week_of(day) if weeks == 1 else (week_of(day) - _origin(valid_from)) // weeks


def days_of_period(frequency: str | None, day: date, valid_from: date | None) -> tuple[date, date]:
    """Return the first and last day of the period of a day. Without a frequency it is the day."""
    weeks = _WEEKS.get(frequency or "")
    if weeks is None:
        return day, day
    elapsed = (week_of(day) - _origin(valid_from)) % weeks
    first = day - timedelta(days=day.weekday() + 7 * elapsed)
    return first, first + timedelta(days=7 * weeks - 1)


def next_period_start(frequency: str | None, day: date, valid_from: date | None) -> date:
    """Return the first day of the period after that of a day."""
    return days_of_period(frequency, day, valid_from)[1] + timedelta(days=1)


def _origin(valid_from: date | None) -> int:
    """Return the week from which pairs of weeks are counted."""
    return 0 if valid_from is None else week_of(valid_from)
