"""Free times by looking at every minute: slow, and without any rule about changes of the clock."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from services.vouchers.scheduling.slots import ResourceCalendar, SlotSearch
from services.vouchers.scheduling.windows import WeeklyHours

Minutes = set[int]


class Clock:
    """What the clock of a zone shows at each minute from the day before to two days after a day."""

    def __init__(self, zone: ZoneInfo, day: date) -> None:
        self.day = day
        noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
        self.instants = range(noon - 180_000, noon + 266_400, 60)
        self.times = [
            datetime.fromtimestamp(instant, zone).replace(tzinfo=None, fold=0)
            for instant in self.instants
        ]
        self.first_shown: dict[datetime, int] = {}
        for instant, time in zip(self.instants, self.times, strict=True):
            self.first_shown.setdefault(time, instant)

    def first(self, local: datetime) -> int:
        """Return the first instant at which the clock shows a time or a later one."""
        if local in self.first_shown:
            return self.first_shown[local]
        pairs = zip(self.instants, self.times, strict=True)
        return next(instant for instant, time in pairs if time >= local)

    def open_minutes(self, hours: Iterable[WeeklyHours]) -> Minutes:
        """Return the instants of the minutes that weekly hours open, on four days."""
        minutes: Minutes = set()
        for number in (-1, 0, 1, 2):
            day = self.day + timedelta(days=number)
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
            for rule in hours:
                if rule.weekday == day.isoweekday():
                    opens = midnight + timedelta(minutes=rule.start_minute)
                    closes = midnight + timedelta(minutes=rule.end_minute)
                    minutes.update(range(self.first(opens), self.first(closes), 60))
        return minutes


clock_of = lru_cache(maxsize=64)(Clock)


def minutes_of(intervals: Iterable[tuple[int, int]]) -> Minutes:
    """Return the instants of the minutes in some intervals."""
    return {instant for start, end in intervals for instant in range(start, end, 60)}


def starts_by_the_minute(calendar: ResourceCalendar, search: SlotSearch) -> list[int]:
    """Return the free starts of a search of one day by looking at each minute."""
    day = search.first_day
    assert day == search.last_day
    clock = clock_of(search.zone, day)
    free = clock_of(calendar.zone, day).open_minutes(calendar.hours)
    free = (free | minutes_of(calendar.opened)) - minutes_of(calendar.closed)
    free -= minutes_of(calendar.busy_elsewhere)
    if search.rules is not None:
        free &= clock.open_minutes(search.rules)
    busy = minutes_of(calendar.busy)
    length = search.duration_minutes * 60
    before, after = calendar.buffer_before_minutes * 60, calendar.buffer_after_minutes * 60
    return [
        start
        for start, time in zip(clock.instants, clock.times, strict=True)
        if time.date() == day
        and (time.hour * 60 + time.minute) % search.step_minutes == 0
        and search.earliest <= start <= search.latest
        and free.issuperset(range(start, start + length, 60))
        and busy.isdisjoint(range(start - before, start + length + after, 60))
    ]


def zone_names() -> list[str]:
    """Return the names of all zones and links of the tz database."""
    return (files("tzdata") / "zones").read_text().split()


def offset_at(instant: int, zone: ZoneInfo) -> timedelta | None:
    """Return the UTC offset of a zone at an instant."""
    return datetime.fromtimestamp(instant, zone).utcoffset()


def days_of_change(zone: ZoneInfo, year: int) -> set[date]:
    """Return the local days of a year on which a clock is changed, and that it is changed to."""
    days = set()
    start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    for before in range(start, start + 366 * 86_400, 86_400):
        low, high = before, before + 86_400
        offset = offset_at(low, zone)
        if offset == offset_at(high, zone):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_at(middle, zone) == offset else (low, middle)
        days |= {datetime.fromtimestamp(moment, zone).date() for moment in (low, high)}
    return days
