"""The wall clock of a time zone: from local times to instants by one rule, and back.

A local time that the clock shows twice means its first occurrence (RFC 5545, section 3.3.5). A
local time that the clock skips is no time of a session (section 3.3.10). An opening time that is
skipped is the moment of the jump. The zones are those of Python's `zoneinfo`; SQL's AT TIME ZONE
could have another version of them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY = 86_400
"""The seconds of a day whose clock is not changed."""

# Without a zone: local times are compared with it.
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_SECOND = timedelta(seconds=1)


def local_time(day: date, minute: int) -> datetime:
    """Return the local time that is a number of minutes after 00:00 of a day; 1440 is 24:00."""
    return datetime.combine(day, time()) + timedelta(minutes=minute)


def local_time_at(instant: int, zone: ZoneInfo) -> datetime:
    """Return what the clock of a zone shows at an instant, without zone and fold."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None, fold=0)


def instant_of(moment: datetime) -> int:
    """Return the instant of a time with its zone, rounded down to a second."""
    return (moment.astimezone(UTC).replace(tzinfo=None) - _EPOCH) // _SECOND


def offset_of(local: datetime, zone: ZoneInfo, fold: int = 0) -> int:
    """Return the UTC offset of a local time, in seconds.

    Fold 0 is the offset before a change of the clock, for a time that is skipped or repeated, and
    fold 1 the offset after the change (PEP 495).
    """
    offset = local.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None
    return offset // _SECOND


def instants_of(local: datetime, zone: ZoneInfo) -> tuple[int, ...]:
    """Return the instants at which a clock shows a local time: one, two, or none if skipped."""
    seconds = (local - _EPOCH) // _SECOND
    first, second = (seconds - offset_of(local, zone, fold) for fold in (0, 1))
    if first == second:
        return (first,)
    # A skipped time with the offset before the jump is an instant after the jump, and vice versa.
    return (first, second) if first < second else ()


def first_instant(local: datetime, zone: ZoneInfo) -> int:
    """Return the first instant at which a clock shows a local time or a later one.

    That is the first occurrence of a repeated time, and the moment of the jump for a skipped one.
    """
    if instants := instants_of(local, zone):
        return instants[0]
    seconds = (local - _EPOCH) // _SECOND
    before, after = (seconds - offset_of(local, zone, fold) for fold in (1, 0))
    steps = range(before, after + 1)
    return steps[bisect_left(steps, True, key=lambda step: local_time_at(step, zone) >= local)]


def interval_of(starts: datetime, ends: datetime, zone: ZoneInfo) -> tuple[int, int]:
    """Return the interval between two local times; it is empty if the clock skips both."""
    return first_instant(starts, zone), first_instant(ends, zone)


def interval_of_days(first: date, last: date, zone: ZoneInfo) -> tuple[int, int]:
    """Return the interval of whole local days, both inclusive."""
    return interval_of(local_time(first, 0), local_time(last, 1440), zone)


@lru_cache(maxsize=4096)
def unchanged_offset(day: date, zone: ZoneInfo) -> int | None:
    """Return the UTC offset of a day in seconds, or None if the clock is changed on the day.

    A change at the day's first or last midnight counts as one of the day. No zone changes its clock
    twice within a day, so that the offsets at both midnights are enough.
    """
    start = offset_of(local_time(day, 0), zone)
    return start if start == offset_of(local_time(day, 1440), zone, fold=1) else None


def midnight(day: date, offset: int) -> int:
    """Return the instant of 00:00 of a day with a UTC offset in seconds."""
    return (day.toordinal() - _EPOCH.toordinal()) * DAY - offset


def grid(first: date, last: date, step: int, zone: ZoneInfo) -> list[Sequence[int]]:
    """Return every instant on the grid of local minutes on local days, both inclusive.

    The grid has one point each `step` minutes, counted from 00:00 of each day. The result is a list
    of ascending sequences in ascending order. A skipped minute is missing and a repeated one is
    contained twice, with both of its instants.
    """
    blocks: list[Sequence[int]] = []
    irregular: set[int] = set()
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        offset = unchanged_offset(day, zone)
        if offset is None:
            irregular.update(_points_of(day, step, zone))
            continue
        if irregular:
            # Not by day: a clock that is set back over midnight shows the day before again.
            blocks.append(sorted(irregular))
            irregular = set()
        start = midnight(day, offset)
        blocks.append(range(start, start + DAY, step * 60))
    return [*blocks, sorted(irregular)] if irregular else blocks


@lru_cache(maxsize=1024)
def _points_of(day: date, step: int, zone: ZoneInfo) -> list[int]:
    """Return the points of the grid on a day whose clock is changed."""
    minutes = (local_time(day, minute) for minute in range(0, 1440, step))
    return [instant for local in minutes for instant in instants_of(local, zone)]


def is_on_grid(instant: int, step: int, zone: ZoneInfo) -> bool:
    """Return whether an instant is on the grid of local minutes that `grid` describes."""
    local = local_time_at(instant, zone)
    return local.second == 0 and (local.hour * 60 + local.minute) % step == 0
