"""The dates of a weekly series."""

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from services.vouchers.scheduling.series import (
    SeriesDate,
    WeeklySeries,
    dates_of,
    next_in_phase,
    sessions_of,
    successors,
)
from services.vouchers.scheduling.wallclock import first_instant, local_time

WARSAW = ZoneInfo("Europe/Warsaw")
FAR = date(2030, 1, 1)


def test_a_series_counts_weeks_from_that_of_its_first_date() -> None:
    """Tuesdays and Thursdays of every second week, from a Wednesday."""
    series = WeeklySeries(WARSAW, frozenset({2, 4}), 2, 600, date(2026, 12, 16), date(2027, 1, 14))
    assert [item.day for item in dates_of(series)] == [
        date(2026, 12, 17),
        date(2026, 12, 29),
        date(2026, 12, 31),
        date(2027, 1, 12),
        date(2027, 1, 14),
    ]


def test_a_time_stays_the_same_when_the_clock_is_changed() -> None:
    series = WeeklySeries(WARSAW, frozenset({2}), 1, 600, date(2026, 3, 24))
    sessions, skipped = sessions_of(series, until=FAR, limit=2)
    # 10:00 in Warsaw is 09:00 UTC in winter and 08:00 UTC in summer.
    assert [(item.starts_at or 0) % 86_400 // 3600 for item in sessions] == [9, 8]
    assert not skipped


def test_a_skipped_time_is_reported_and_not_counted() -> None:
    """Sundays at 02:30: 29 March 2026 has no such time."""
    series = WeeklySeries(WARSAW, frozenset({7}), 1, 150, date(2026, 3, 22))
    sessions, skipped = sessions_of(series, until=FAR, limit=2)
    assert [item.day for item in sessions] == [date(2026, 3, 22), date(2026, 4, 5)]
    assert skipped == [SeriesDate(date(2026, 3, 29), None)]


def test_a_repeated_time_is_the_first_one() -> None:
    day = date(2026, 10, 25)
    series = WeeklySeries(WARSAW, frozenset({7}), 1, 150, day, day)
    expected = first_instant(local_time(day, 150), WARSAW)
    assert list(dates_of(series)) == [SeriesDate(day, expected)]


def test_a_day_that_a_zone_skips_is_reported() -> None:
    """Samoa had no 30 December 2011, a Friday."""
    series = WeeklySeries(
        ZoneInfo("Pacific/Apia"), frozenset({5}), 1, 600, date(2011, 12, 23), date(2012, 1, 6)
    )
    sessions, skipped = sessions_of(series, until=FAR, limit=10)
    assert [item.day for item in sessions] == [date(2011, 12, 23), date(2012, 1, 6)]
    assert [item.day for item in skipped] == [date(2011, 12, 30)]


def test_a_series_ends_with_its_limit_and_its_days() -> None:
    series = WeeklySeries(WARSAW, frozenset({1}), 1, 600, date(2026, 6, 1))
    sessions, _ = sessions_of(series, until=date(2026, 6, 15), limit=10)
    assert [item.day.day for item in sessions] == [1, 8, 15]
    assert sessions_of(series, until=FAR, limit=0) == ([], [])
    nothing = WeeklySeries(WARSAW, frozenset(), 1, 600, date(2026, 6, 1))
    assert list(dates_of(nothing)) == []


def test_iso_week_53_counts_as_a_week() -> None:
    """2026 has 53 ISO weeks: every second Thursday from 17 December (week 51) is in week 53."""
    series = WeeklySeries(WARSAW, frozenset({4}), 2, 600, date(2026, 12, 17), date(2027, 1, 31))
    assert [item.day for item in dates_of(series)] == [
        date(2026, 12, 17),
        date(2026, 12, 31),
        date(2027, 1, 14),
        date(2027, 1, 28),
    ]
    assert date(2026, 12, 31).isocalendar().week == 53


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        pytest.param(date(2026, 12, 16), date(2026, 12, 16), id="in the first week"),
        pytest.param(date(2026, 12, 22), date(2026, 12, 28), id="in a week without sessions"),
        pytest.param(date(2027, 1, 3), date(2027, 1, 3), id="on the last day of week 53"),
        pytest.param(date(2027, 1, 4), date(2027, 1, 11), id="after week 53"),
    ],
)
def test_a_series_is_continued_in_its_own_weeks(day: date, expected: date) -> None:
    series = WeeklySeries(WARSAW, frozenset({2, 4}), 2, 600, date(2026, 12, 16))
    assert next_in_phase(series, day) == expected


def test_dates_move_to_the_dates_of_their_week() -> None:
    # Mondays and Wednesdays become Wednesdays and Fridays.
    old = [date(2026, 6, 1), date(2026, 6, 3), date(2026, 6, 8), date(2026, 6, 10)]
    new = [date(2026, 6, 3), date(2026, 6, 5), date(2026, 6, 12)]
    assert successors(old, new) == {
        date(2026, 6, 1): date(2026, 6, 5),
        date(2026, 6, 3): date(2026, 6, 3),
        date(2026, 6, 8): date(2026, 6, 12),
    }
