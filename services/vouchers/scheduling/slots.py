"""The free times of one resource: one linear pass over sorted integers."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

from services.vouchers.scheduling.wallclock import grid, interval_of_days
from services.vouchers.scheduling.windows import (
    Interval,
    WeeklyHours,
    daily_windows,
    difference,
    intersection,
    open_windows,
    union,
)

_NEVER = 2**62


@dataclass(frozen=True, slots=True)
class ResourceCalendar:
    """When a resource is there, and when it is taken.

    `hours` are local times of `zone`. `opened`, `closed` and `busy_elsewhere` are intervals in any
    order; the latter two are no opening times. `busy` are intervals sorted by their start, each
    with its own buffers; they may overlap. The buffers in minutes are those of a new session. They
    may lie outside of the opening times.
    """

    zone: ZoneInfo
    hours: Sequence[WeeklyHours]
    opened: Sequence[Interval] = ()
    closed: Sequence[Interval] = ()
    busy_elsewhere: Sequence[Interval] = ()
    busy: Sequence[Interval] = ()
    buffer_before_minutes: int = 0
    buffer_after_minutes: int = 0


@dataclass(frozen=True, slots=True)
class SlotSearch:
    """What is searched: sessions of a length that begin on local days of an organization's zone.

    `rules` are a voucher's booking rules in the organization's zone; None allows every time. A
    start is on the grid of `step_minutes` of that zone, between the instants `earliest` and
    `latest` (both inclusive), and not on one of the `closed_days`.
    """

    zone: ZoneInfo
    first_day: date
    last_day: date
    duration_minutes: int
    step_minutes: int
    earliest: int
    latest: int
    rules: Sequence[WeeklyHours] | None = None
    closed_days: Iterable[date] = ()


def free_starts(calendar: ResourceCalendar, search: SlotSearch) -> list[int]:
    """Return the instants, ascending, at which a session can begin.

    The whole session lies within the opening times and the booking rules. Opening times that touch
    at midnight are one, so that a session may last over midnight. The session and its buffers meet
    nothing busy. The days of the search limit the start only.
    """
    # A resource's zone may be a day ahead or behind, and a session may last over midnight, or over
    # a day that a zone skips.
    margin = timedelta(days=2 + search.duration_minutes // 1440)
    first, last = search.first_day - timedelta(days=1), search.last_day + margin
    hours = daily_windows(calendar.hours, first, last, calendar.zone)
    windows = open_windows(hours, calendar.opened, [*calendar.closed, *calendar.busy_elsewhere])
    if search.rules is not None:
        windows = intersection(windows, daily_windows(search.rules, first, last, search.zone))
    starts = allowed_starts(
        windows,
        calendar.busy,
        length=search.duration_minutes * 60,
        before=calendar.buffer_before_minutes * 60,
        after=calendar.buffer_after_minutes * 60,
    )
    points = grid(search.first_day, search.last_day, search.step_minutes, search.zone)
    return on_grid(intersection(starts, _limits(search)), points)


def allowed_starts(
    windows: Sequence[Interval], busy: Sequence[Interval], *, length: int, before: int, after: int
) -> list[Interval]:
    """Return the intervals of the instants at which a session of `length` seconds can begin.

    The session lies in one of the windows, which are sorted and disjoint. The session, with the
    seconds `before` and `after` it, overlaps nothing of `busy`, which is sorted by its start.
    """
    starts: list[Interval] = []
    remaining = iter(windows)
    start = end = -_NEVER
    tail = length + after - 1
    # A session that begins at s meets a busy interval (b, e) if b - tail <= s < e + before. The
    # last one is after all windows, so that the loop ends with the last window.
    for busy_from, busy_until in chain(busy, [(_NEVER, _NEVER)]):
        gap_end = busy_from - tail
        while gap_end > end:
            if start < end:
                starts.append((start, end))
            window = next(remaining, None)
            if window is None:
                return starts
            start, end = max(start, window[0]), window[1] - length + 1
        if start < gap_end:
            starts.append((start, gap_end))
        if busy_until + before > start:
            start = busy_until + before
    return starts


def on_grid(starts: Sequence[Interval], points: Sequence[Sequence[int]]) -> list[int]:
    """Return the points of a grid that sorted, disjoint intervals contain, ascending."""
    matches: list[int] = []
    k = 0
    for start, end in starts:
        while k < len(points) and points[k][-1] < start:
            k += 1
        n = k
        while n < len(points) and points[n][0] < end:
            block = points[n]
            matches.extend(block[bisect_left(block, start) : bisect_left(block, end)])
            n += 1
    return matches


def _limits(search: SlotSearch) -> list[Interval]:
    """Return the intervals in which a search allows sessions to begin."""
    days = [interval_of_days(search.first_day, search.last_day, search.zone)]
    closed = union(interval_of_days(day, day, search.zone) for day in search.closed_days)
    return difference(intersection(days, [(search.earliest, search.latest + 1)]), closed)
