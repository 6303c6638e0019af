"""The dates of a weekly series. A date whose local time the clock skips is no date of it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from services.vouchers.scheduling.periods import week_of
from services.vouchers.scheduling.wallclock import instants_of, local_time


@dataclass(frozen=True, slots=True)
class WeeklySeries:
    """Sessions at one local time on weekdays of every n-th ISO week.

    The weeks are counted from that of `first_date` (RFC 5545, section 3.3.10, with WKST=MO).
    """

    zone: ZoneInfo
    weekdays: frozenset[int]
    every_weeks: int
    start_minute: int
    first_date: date
    last_date: date | None = None


@dataclass(frozen=True, slots=True)
class SeriesDate:
    """A date of a series. `starts_at` is its instant, or None if the clock skips the time."""

    day: date
    starts_at: int | None


def dates_of(series: WeeklySeries) -> Iterator[SeriesDate]:
    """Yield the dates of a series in ascending order, without end if it has no last date.

    A repeated time is its first occurrence (RFC 5545, section 3.3.5). A date without the time has
    no instant: it is skipped, and does not count as a session of the series (section 3.3.10).
    """
    if not series.weekdays:
        return
    monday = series.first_date - timedelta(days=series.first_date.weekday())
    for number in count(step=series.every_weeks):
        for weekday in sorted(series.weekdays):
            day = monday + timedelta(weeks=number, days=weekday - 1)
            if series.last_date is not None and day > series.last_date:
                return
            if day >= series.first_date:
                instants = instants_of(local_time(day, series.start_minute), series.zone)
                yield SeriesDate(day, instants[0] if instants else None)


def sessions_of(
    series: WeeklySeries, *, until: date, limit: int
) -> tuple[list[SeriesDate], list[SeriesDate]]:
    """Return at most `limit` dates with an instant, up to a day, and the skipped ones among them.

    The limit counts the dates with an instant only.
    """
    sessions: list[SeriesDate] = []
    skipped: list[SeriesDate] = []
    for occurrence in dates_of(series):
        if occurrence.day > until or len(sessions) >= limit:
            break
        (skipped if occurrence.starts_at is None else sessions).append(occurrence)
    return sessions, skipped


def next_in_phase(series: WeeklySeries, day: date) -> date:
    """Return the first day, from `day` on, that is in a week in which the series has sessions.

    A series that continues another one from such a day has its sessions in the same weeks.
    """
    elapsed = (week_of(day) - week_of(series.first_date)) % series.every_weeks
    if elapsed == 0:
        return day
    return day + timedelta(weeks=series.every_weeks - elapsed, days=-day.weekday())


def successors(old: Iterable[date], new: Iterable[date]) -> dict[date, date]:
    """Return for each old date of a series the new one that takes its place, if there is one.

    A date that is a new one too stays. Of the other dates of an ISO week, the first old one becomes
    the first new one, the second one the second one, and so on.
    """
    old_days, new_days = set(old), set(new)
    places = {day: day for day in old_days & new_days}
    remaining: dict[int, list[date]] = defaultdict(list)
    for day in sorted(new_days - old_days):
        remaining[week_of(day)].append(day)
    for day in sorted(old_days - new_days):
        if days := remaining[week_of(day)]:
            places[day] = days.pop(0)
    return places
