"""Opening times: weekly hours as intervals, and the algebra of sorted intervals.

The functions that take two sequences of intervals expect them sorted and disjoint, as `union`
returns them, and pass over both once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.vouchers.scheduling.wallclock import (
    interval_of,
    local_time,
    midnight,
    unchanged_offset,
)

Interval = tuple[int, int]
"""The first instant, and the first instant after it: see the package."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""The names of booking rules, in the order of ISO weekdays."""


@dataclass(frozen=True, slots=True)
class WeeklyHours:
    """Local minutes of a weekday, from 0 to 1440, between two days (both inclusive) if limited."""

    weekday: int
    start_minute: int
    end_minute: int
    from_date: date | None = None
    until_date: date | None = None

    def is_for(self, day: date) -> bool:
        """Return whether these hours concern a day."""
        return (
            self.weekday == day.isoweekday()
            and (self.from_date is None or self.from_date <= day)
            and (self.until_date is None or day <= self.until_date)
        )


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Return intervals of any order as sorted, disjoint ones; adjacent ones become one."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def intersection(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return the times that both sequences contain."""
    common: list[Interval] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            common.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return common


def difference(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return the times of the first sequence that the second does not contain."""
    rest: list[Interval] = []
    j = 0
    for interval in left:
        start, end = interval
        while j < len(right) and right[j][1] <= start:
            j += 1
        k = j
        while k < len(right) and right[k][0] < end:
            if start < right[k][0]:
                rest.append((start, right[k][0]))
            start = right[k][1]
            k += 1
        if start < end:
            rest.append((start, end))
    return rest


def contains(intervals: Iterable[Interval], start: int, end: int) -> bool:
    """Return whether one of some intervals contains the whole of [start, end)."""
    return any(first <= start and end <= last for first, last in intervals)


def daily_windows(
    hours: Sequence[WeeklyHours], first: date, last: date, zone: ZoneInfo
) -> list[Interval]:
    """Return weekly hours as sorted, disjoint intervals on local days, both inclusive.

    Each opens at the first instant whose clock shows its start or a later time, and closes
    likewise. Hours that end at 24:00 and those from 00:00 of the next day become one interval.
    """
    by_weekday = [[rule for rule in hours if rule.weekday == number] for number in range(1, 8)]
    intervals: list[Interval] = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        rules = [rule for rule in by_weekday[day.weekday()] if rule.is_for(day)]
        if not rules:
            continue
        offset = unchanged_offset(day, zone)
        start = 0 if offset is None else midnight(day, offset)
        for rule in rules:
            opens, closes = rule.start_minute, rule.end_minute
            if offset is None:
                ends = local_time(day, closes)
                intervals.append(interval_of(local_time(day, opens), ends, zone))
            else:
                intervals.append((start + opens * 60, start + closes * 60))
    return union(intervals)


def open_windows(
    windows: Sequence[Interval], opened: Iterable[Interval], closed: Iterable[Interval]
) -> list[Interval]:
    """Return working hours with the times opened in addition, without those that are closed.

    A time that is opened and closed is closed.
    """
    return difference(union([*windows, *opened]), union(closed))


def hours_of_rules(rules: Mapping[str, Any]) -> tuple[WeeklyHours, ...] | None:
    """Return the hours of a voucher's booking rules, or None if it has none: every time is open.

    A day that is missing or not enabled is closed, and so is one that version 1 stored in another
    form than `{"enabled": true, "start_time": "HH:MM", "end_time": "HH:MM"}`.
    """
    if not rules:
        return None
    hours = []
    for number, name in enumerate(WEEKDAYS, start=1):
        rule = rules.get(name)
        if not (isinstance(rule, dict) and rule.get("enabled")):
            continue
        start, end = _minutes(rule.get("start_time")), _minutes(rule.get("end_time"))
        if start is not None and end is not None and start < end:
            hours.append(WeeklyHours(number, start, end))
    return tuple(hours)


def _minutes(clock_time: Any) -> int | None:
    """Return the local minute of a time HH:MM up to 24:00, or None for anything else."""
    hour, _, minute = clock_time.partition(":") if isinstance(clock_time, str) else ("", "", "")
    if not (len(hour) == len(minute) == 2 and (hour + minute).isascii()):
        return None
    if not (hour + minute).isdigit() or int(minute) > 59:
        return None
    total = int(hour) * 60 + int(minute)
    return total if total <= 1440 else None
