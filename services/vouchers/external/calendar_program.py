"""A program that reads a calendar (iCalendar, RFC 5545): stdin is the calendar, stdout the times.

    calendar_program.py ZONE FIRST LAST SECONDS

It writes the busy times between two instants as a JSON list of pairs of instants, in seconds since
1970, in any order. Times without a zone, and days, are those of the zone. It writes nothing else of
the calendar. It runs in a process with limits of its own, because the calendar's origin is unknown,
and a rule may repeat an event without end: SECONDS limits its time of the processor. It imports
nothing of Carnet. Exit status 0: the times are on stdout; any other: the calendar cannot be read.
"""

import json
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import recurring_ical_events
from icalendar import Calendar

MAX_TIMES = 20_000

MEMORY_BYTES = 384 * 1024 * 1024
"""Address space, less than the worker's container has: a calendar of 9,000 events needs 100 MB."""

_OURS = re.compile(r"(?:session|reservation)-[0-9]+@carnet")
"""The UIDs of Carnet's own feeds: whoever subscribes to one is not busy by it."""


def limit_resources(seconds: int) -> None:
    """Bound what this process may use; the system ends it when it uses more."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # macOS has no such limit; the limit on bytes protects it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def busy_times(data: bytes, zone: ZoneInfo, first: int, last: int) -> list[tuple[int, int]]:
    """Return the busy times of a calendar that overlap a stretch of time.

    Raises ValueError for what is no calendar and for too many times, and whatever the parser does.
    """
    calendars = Calendar.from_ical(data, multiple=True)
    if not calendars or any(calendar.name != "VCALENDAR" for calendar in calendars):
        raise ValueError("no calendar")
    times = [
        (start, end)
        for calendar in calendars
        for start, end in _times_of(calendar, zone, first, last)
        if start < end and start < last and end > first
    ]
    if len(times) > MAX_TIMES:
        raise ValueError(f"more than {MAX_TIMES} events")
    return times


def _times_of(
    calendar: Calendar, zone: ZoneInfo, first: int, last: int
) -> Iterator[tuple[int, int]]:
    # A day more on both sides: the library takes times without a zone for UTC.
    margin = timedelta(days=1)
    start, end = (datetime.fromtimestamp(instant, UTC) for instant in (first, last))
    events = recurring_ical_events.of(calendar, skip_bad_series=True)
    for event in events.between(start - margin, end + margin):
        if _is_busy(event):
            # Of days, the end is the first day after them.
            yield _instant(event.start, zone), _instant(event.end, zone)


def _is_busy(event: Any) -> bool:
    """Return whether an event takes the time of its calendar's owner."""
    return not (
        str(event.get("STATUS", "")).upper() == "CANCELLED"
        or str(event.get("TRANSP", "")).upper() == "TRANSPARENT"
        or str(event.get("X-MICROSOFT-CDO-BUSYSTATUS", "")).upper() == "FREE"
        or _OURS.match(str(event.get("UID", "")))
    )


def _instant(moment: date, zone: ZoneInfo) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return int(moment.timestamp())


def main() -> None:
    """Read, repeat, write."""
    zone, *numbers = sys.argv[1:]
    first, last, seconds = map(int, numbers)
    limit_resources(seconds)
    try:
        times = busy_times(sys.stdin.buffer.read(), ZoneInfo(zone), first, last)
    except Exception as error:
        # Without the message, which may quote the calendar.
        sys.exit(type(error).__name__)
    sys.stdout.write(json.dumps(times))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
