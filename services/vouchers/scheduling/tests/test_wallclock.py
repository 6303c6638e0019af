"""From local times to instants and back, on days on which clocks are changed."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vouchers.scheduling.tests.brute_force import zone_names
from services.vouchers.scheduling.wallclock import (
    first_instant,
    grid,
    instant_of,
    instants_of,
    interval_of_days,
    is_on_grid,
    local_time,
    local_time_at,
    unchanged_offset,
)

WARSAW = ZoneInfo("Europe/Warsaw")


def utc(text: str) -> int:
    return instant_of(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("zone", "day", "minute", "instants", "first"),
    [
        ("Europe/Warsaw", date(2026, 6, 1), 600, ["2026-06-01T08:00"], "2026-06-01T08:00"),
        # 02:00 to 03:00 does not exist; the clock jumps at 01:00 UTC.
        ("Europe/Warsaw", date(2026, 3, 29), 120, [], "2026-03-29T01:00"),
        ("Europe/Warsaw", date(2026, 3, 29), 150, [], "2026-03-29T01:00"),
        ("Europe/Warsaw", date(2026, 3, 29), 180, ["2026-03-29T01:00"], "2026-03-29T01:00"),
        (
            "Europe/Warsaw",
            date(2026, 10, 25),
            150,
            ["2026-10-25T00:30", "2026-10-25T01:30"],
            "2026-10-25T00:30",
        ),
        ("Europe/Warsaw", date(2026, 10, 25), 180, ["2026-10-25T02:00"], "2026-10-25T02:00"),
        # The half hour from 01:30 twice, and from 02:00 never.
        (
            "Australia/Lord_Howe",
            date(2026, 4, 5),
            105,
            ["2026-04-04T14:45", "2026-04-04T15:15"],
            "2026-04-04T14:45",
        ),
        ("Australia/Lord_Howe", date(2026, 10, 4), 135, [], "2026-10-03T15:30"),
        ("America/Havana", date(2026, 3, 8), 0, [], "2026-03-08T05:00"),
        (
            "America/Havana",
            date(2026, 11, 1),
            0,
            ["2026-11-01T04:00", "2026-11-01T05:00"],
            "2026-11-01T04:00",
        ),
        ("America/Havana", date(2026, 10, 31), 1440, ["2026-11-01T04:00", "2026-11-01T05:00"], ""),
        ("Africa/Casablanca", date(2026, 2, 15), 150, ["2026-02-15T01:30", "2026-02-15T02:30"], ""),
        ("Africa/Casablanca", date(2026, 3, 22), 150, [], "2026-03-22T02:00"),
        ("Pacific/Apia", date(2011, 12, 30), 0, [], "2011-12-30T10:00"),
        ("Pacific/Apia", date(2011, 12, 30), 1439, [], "2011-12-30T10:00"),
        ("Pacific/Apia", date(2011, 12, 31), 0, ["2011-12-30T10:00"], "2011-12-30T10:00"),
    ],
)
def test_a_local_time_has_none_one_or_two_instants(
    zone: str, day: date, minute: int, instants: list[str], first: str
) -> None:
    clock = ZoneInfo(zone)
    assert instants_of(local_time(day, minute), clock) == tuple(map(utc, instants))
    assert first_instant(local_time(day, minute), clock) == utc(first or instants[0])


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Warsaw", date(2026, 3, 28), 24),
        ("Europe/Warsaw", date(2026, 3, 29), 23),
        ("Europe/Warsaw", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Havana", date(2026, 3, 8), 23),
        ("America/Sao_Paulo", date(2018, 2, 17), 25),
        ("Pacific/Apia", date(2011, 12, 29), 24),
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_a_day_lasts_as_long_as_its_clock_shows_it(zone: str, day: date, hours: float) -> None:
    start, end = interval_of_days(day, day, ZoneInfo(zone))
    assert (end - start) / 3600 == hours


@given(
    st.sampled_from(zone_names()).map(ZoneInfo),
    st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)),  # noqa: DTZ001
)
def test_an_instant_is_one_of_those_that_its_clock_shows(zone: ZoneInfo, moment: datetime) -> None:
    instant = instant_of(moment.replace(tzinfo=UTC))
    local = local_time_at(instant, zone)
    assert instant in instants_of(local, zone)
    offset = unchanged_offset(local.date(), zone)
    if offset is not None:
        assert datetime.fromtimestamp(instant, zone).utcoffset() == timedelta(seconds=offset)


def test_the_grid_of_a_year_ascends_and_is_on_the_grid() -> None:
    points = [
        point for block in grid(date(2026, 1, 1), date(2026, 12, 31), 45, WARSAW) for point in block
    ]
    assert points == sorted(set(points))
    # 01:30, 02:15 and 03:00: one is skipped in spring and repeated in autumn.
    assert len(points) == 365 * 32
    assert all(is_on_grid(point, 45, WARSAW) for point in points)
    assert not is_on_grid(points[0] + 60, 45, WARSAW)
    assert not is_on_grid(points[0] + 1, 45, WARSAW)


def test_an_instant_in_another_zone_is_the_same() -> None:
    moment = datetime(2026, 6, 1, 10, 0, 0, 999_999, tzinfo=WARSAW)
    assert instant_of(moment) == instant_of(moment.astimezone(UTC)) == utc("2026-06-01T08:00")
    before_1970 = datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)
    assert instant_of(before_1970) == -1
