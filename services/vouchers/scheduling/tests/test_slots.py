"""Free times are what looking at every minute finds, in every zone and on every odd day."""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vouchers.scheduling.slots import ResourceCalendar, SlotSearch, free_starts
from services.vouchers.scheduling.tests.brute_force import (
    days_of_change,
    starts_by_the_minute,
    zone_names,
)
from services.vouchers.scheduling.wallclock import (
    first_instant,
    interval_of_days,
    local_time,
    local_time_at,
)
from services.vouchers.scheduling.windows import Interval, WeeklyHours

WARSAW = ZoneInfo("Europe/Warsaw")
MONDAY = date(2026, 6, 1)
ALWAYS = 10**11

ODD_DAYS = [
    ("Pacific/Apia", date(2011, 12, 29)),
    ("Pacific/Apia", date(2011, 12, 30)),  # does not exist
    ("Pacific/Apia", date(2011, 12, 31)),
    ("America/Sao_Paulo", date(2018, 11, 4)),  # begins at 01:00
    ("America/Sao_Paulo", date(2018, 2, 17)),  # 23:00 twice
    ("America/St_Johns", date(2011, 11, 5)),  # 23:01 to 24:00 again after a minute of the 6th
    ("America/St_Johns", date(2011, 11, 6)),
    ("America/Havana", date(2026, 3, 8)),  # begins at 01:00
    ("America/Havana", date(2026, 11, 1)),  # 00:00 twice
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # 24.5 hours
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # 23.5 hours
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Africa/Casablanca", date(2026, 3, 22)),
    ("Asia/Kathmandu", date(1986, 1, 1)),  # a jump of 15 minutes
    ("Antarctica/Troll", date(2026, 3, 29)),  # a jump of two hours
]


def every_day(start: int, end: int) -> tuple[WeeklyHours, ...]:
    return tuple(WeeklyHours(weekday, start, end) for weekday in range(1, 8))


def search_of(day: date, zone: ZoneInfo = WARSAW, minutes: int = 60, step: int = 30) -> SlotSearch:
    return SlotSearch(zone, day, day, minutes, step, -ALWAYS, ALWAYS)


def clock_times(starts: Iterable[int], zone: ZoneInfo = WARSAW) -> list[str]:
    return [f"{local_time_at(start, zone):%d %H:%M}" for start in starts]


def at(hour: int, minute: int = 0, day: date = MONDAY) -> int:
    return first_instant(local_time(day, hour * 60 + minute), WARSAW)


@cache
def changes_of_2026() -> list[tuple[str, date]]:
    return [
        (name, day) for name in zone_names() for day in sorted(days_of_change(ZoneInfo(name), 2026))
    ]


def test_slots_are_those_of_each_minute_on_each_change_of_a_clock() -> None:
    days = [*changes_of_2026(), *ODD_DAYS]
    assert len(days) > 400
    for name, day in days:
        zone = ZoneInfo(name)
        # The third begins and ends in most gaps, and the fourth begins there.
        for start, end in ((0, 1440), (60, 240), (120, 180), (150, 600)):
            calendar = ResourceCalendar(zone, every_day(start, end))
            search = search_of(day, zone, minutes=30, step=15)
            assert free_starts(calendar, search) == starts_by_the_minute(calendar, search), (
                name,
                day,
                start,
                end,
            )


minutes_of_a_day = st.integers(0, 1440)
hours = st.lists(
    st.tuples(st.integers(1, 7), minutes_of_a_day, minutes_of_a_day)
    .filter(lambda rule: rule[1] < rule[2])
    .map(lambda rule: WeeklyHours(*rule)),
    min_size=3,
    max_size=14,
)
one_night = st.builds(lambda start: [*every_day(start, 1440), *every_day(0, 300)], minutes_of_a_day)


def intervals_near(start: int) -> st.SearchStrategy[list[Interval]]:
    """Intervals of whole minutes that may overlap, sorted by their start."""
    interval = st.tuples(st.integers(-600, 2000), st.integers(1, 300)).map(
        lambda pair: (start + pair[0] * 60, start + (pair[0] + pair[1]) * 60)
    )
    return st.lists(interval, max_size=6).map(sorted)


@given(st.data())
def test_slots_are_those_of_each_minute_for_any_calendar(data: st.DataObject) -> None:
    name, day = data.draw(st.sampled_from([*changes_of_2026(), *ODD_DAYS]), "day")
    zone = ZoneInfo(name)
    names = st.sampled_from(["Asia/Kolkata", "America/New_York", "Pacific/Kiritimati"])
    here = ZoneInfo(data.draw(st.just(name) | names, "zone of the resource"))
    start, _ = interval_of_days(day, day, zone)
    calendar = ResourceCalendar(
        here,
        data.draw(hours | one_night, "hours"),
        opened=data.draw(intervals_near(start), "opened"),
        closed=data.draw(intervals_near(start), "closed"),
        busy_elsewhere=data.draw(intervals_near(start), "busy elsewhere"),
        busy=data.draw(intervals_near(start), "busy"),
        buffer_before_minutes=data.draw(st.integers(0, 30), "before"),
        buffer_after_minutes=data.draw(st.integers(0, 30), "after"),
    )
    search = SlotSearch(
        zone,
        day,
        day,
        duration_minutes=data.draw(st.integers(1, 240), "duration"),
        step_minutes=data.draw(st.integers(5, 240), "step"),
        earliest=start + 60 * data.draw(st.integers(-100, 400), "earliest"),
        latest=start + 60 * data.draw(st.integers(300, 1600), "latest"),
        rules=data.draw(st.none() | hours, "rules"),
    )
    assert free_starts(calendar, search) == starts_by_the_minute(calendar, search)


@pytest.mark.parametrize(
    ("name", "day", "number"),
    [
        ("Europe/Warsaw", date(2026, 3, 29), 46),
        ("Europe/Warsaw", date(2026, 10, 25), 50),
        ("Australia/Lord_Howe", date(2026, 4, 5), 49),
        ("Australia/Lord_Howe", date(2026, 10, 4), 47),
        ("America/Havana", date(2026, 3, 8), 46),
        ("Africa/Casablanca", date(2026, 2, 15), 50),
        ("Pacific/Apia", date(2011, 12, 30), 0),
        ("Europe/Warsaw", date(2026, 6, 1), 48),
    ],
)
def test_a_day_has_as_many_starts_as_its_clock_shows(name: str, day: date, number: int) -> None:
    zone = ZoneInfo(name)
    starts = free_starts(ResourceCalendar(zone, every_day(0, 1440)), search_of(day, zone))
    assert len(starts) == number


def test_a_repeated_half_hour_is_offered_twice_and_a_skipped_one_never() -> None:
    calendar = ResourceCalendar(WARSAW, every_day(60, 240))
    autumn = free_starts(calendar, search_of(date(2026, 10, 25)))
    assert clock_times(autumn).count("25 02:30") == 2
    assert autumn == sorted(set(autumn))
    spring = free_starts(calendar, search_of(date(2026, 3, 29)))
    assert clock_times(spring) == ["29 01:00", "29 01:30", "29 03:00"]


def test_hours_that_touch_in_a_repeated_hour_leave_no_hole() -> None:
    day = date(2026, 10, 25)
    parts = ResourceCalendar(WARSAW, [*every_day(0, 150), *every_day(150, 1440)])
    whole = ResourceCalendar(WARSAW, every_day(0, 1440))
    assert free_starts(parts, search_of(day)) == free_starts(whole, search_of(day))


def test_a_session_may_last_over_midnight_between_hours_that_touch() -> None:
    night = ResourceCalendar(WARSAW, [*every_day(1320, 1440), *every_day(0, 60)])
    starts = free_starts(night, search_of(MONDAY, minutes=90))
    assert clock_times(starts) == ["01 22:00", "01 22:30", "01 23:00", "01 23:30"]
    evening = ResourceCalendar(WARSAW, every_day(1320, 1440))
    assert clock_times(free_starts(evening, search_of(MONDAY, minutes=90))) == [
        "01 22:00",
        "01 22:30",
    ]


def test_a_session_may_last_over_a_day_that_a_zone_skips() -> None:
    """Samoa's 29 December 2011 was followed by 31 December."""
    apia, day = ZoneInfo("Pacific/Apia"), date(2011, 12, 29)
    calendar = ResourceCalendar(apia, every_day(0, 1440))
    search = SlotSearch(apia, day, day, 60, 30, -ALWAYS, ALWAYS, rules=every_day(0, 1440))
    assert clock_times(free_starts(calendar, search), apia)[-1] == "29 23:30"


def test_rules_of_whole_days_are_no_rules() -> None:
    night = ResourceCalendar(WARSAW, [*every_day(1320, 1440), *every_day(0, 60)])
    search = search_of(MONDAY, minutes=90)
    restricted = SlotSearch(
        WARSAW, MONDAY, MONDAY, 90, 30, -ALWAYS, ALWAYS, rules=every_day(0, 1440)
    )
    assert free_starts(night, restricted) == free_starts(night, search)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0, 0, ["01 09:00", "01 11:00", "01 13:00", "01 14:00"]),
        (0, 10, ["01 13:00", "01 14:00"]),
        (10, 0, ["01 09:00", "01 14:00"]),
        (10, 10, ["01 14:00"]),
    ],
)
def test_adjacent_sessions_need_the_buffers_between_them(
    before: int, after: int, expected: list[str]
) -> None:
    calendar = ResourceCalendar(
        WARSAW,
        every_day(540, 900),
        busy=[(at(10), at(11)), (at(12), at(13))],
        buffer_before_minutes=before,
        buffer_after_minutes=after,
    )
    assert clock_times(free_starts(calendar, search_of(MONDAY, step=60))) == expected


def test_the_buffers_of_a_new_session_may_lie_outside_of_the_hours() -> None:
    calendar = ResourceCalendar(
        WARSAW, every_day(540, 600), buffer_before_minutes=30, buffer_after_minutes=30
    )
    assert clock_times(free_starts(calendar, search_of(MONDAY))) == ["01 09:00"]


def test_a_closed_time_stays_closed_if_it_is_opened_too() -> None:
    calendar = ResourceCalendar(
        WARSAW,
        every_day(540, 600),
        opened=[(at(10), at(14))],
        closed=[(at(11), at(12)), (at(11, 30), at(12))],
    )
    starts = free_starts(calendar, search_of(MONDAY, step=60))
    assert clock_times(starts) == ["01 09:00", "01 10:00", "01 12:00", "01 13:00"]


def test_the_last_day_and_closed_days_limit_the_start_only() -> None:
    """A session on the last day of a validity may end on the next day."""
    calendar = ResourceCalendar(WARSAW, every_day(0, 1440))
    closed = {MONDAY + timedelta(days=1)}
    last = MONDAY + timedelta(days=2)
    search = SlotSearch(WARSAW, MONDAY, last, 120, 60, at(22), at(23, day=last), closed_days=closed)
    times = clock_times(free_starts(calendar, search))
    assert times[:2] == ["01 22:00", "01 23:00"]
    assert times[2] == "03 00:00"
    assert times[-1] == "03 23:00"


def test_hours_of_a_period_end_with_it() -> None:
    hours_of_may = [WeeklyHours(1, 540, 600, until_date=MONDAY - timedelta(days=1))]
    hours_of_june = [WeeklyHours(1, 660, 720, from_date=MONDAY)]
    calendar = ResourceCalendar(WARSAW, [*hours_of_may, *hours_of_june])
    assert clock_times(free_starts(calendar, search_of(MONDAY))) == ["01 11:00"]


def test_hours_of_a_therapist_in_another_zone_are_of_their_clock() -> None:
    lisbon = ResourceCalendar(ZoneInfo("Europe/Lisbon"), every_day(540, 660))
    assert clock_times(free_starts(lisbon, search_of(MONDAY, step=60))) == ["01 10:00", "01 11:00"]
    # 1 June in Warsaw begins on 1 June at noon in Kiritimati.
    ahead = ResourceCalendar(ZoneInfo("Pacific/Kiritimati"), [WeeklyHours(2, 0, 120)])
    assert clock_times(free_starts(ahead, search_of(MONDAY, step=60))) == ["01 12:00", "01 13:00"]
