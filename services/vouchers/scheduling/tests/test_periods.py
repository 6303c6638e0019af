"""Periods of a frequency are those of the calendar, also over New Year."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vouchers.scheduling.periods import days_of_period, next_period_start, period_of

MONDAY = date(2026, 6, 1)
frequencies = st.sampled_from(["daily", "weekly", "biweekly", "custom"])
days = st.dates(date(2000, 1, 1), date(2100, 12, 31))


@given(frequencies, days, days)
def test_a_period_is_the_days_with_its_number(frequency: str, day: date, valid_from: date) -> None:
    first, last = days_of_period(frequency, day, valid_from)
    number = period_of(frequency, day, valid_from)
    assert first <= day <= last
    assert period_of(frequency, first, valid_from) == number
    assert period_of(frequency, last, valid_from) == number
    before, after = first - timedelta(days=1), next_period_start(frequency, day, valid_from)
    assert after == last + timedelta(days=1)
    numbers = [period_of(frequency, other, valid_from) for other in (before, day, after)]
    assert None not in numbers
    assert len(set(numbers)) == 3


@given(days)
def test_weeks_are_those_of_iso_8601(day: date) -> None:
    first, last = days_of_period("weekly", day, None)
    assert first.isocalendar()[:2] == last.isocalendar()[:2] == day.isocalendar()[:2]
    assert (first.isoweekday(), last.isoweekday()) == (1, 7)


def test_week_53_ends_in_the_new_year() -> None:
    """2026 has a week 53, from 28 December to 3 January."""
    assert date(2026, 12, 28).isocalendar()[:2] == (2026, 53)
    week = period_of("weekly", date(2026, 12, 31), MONDAY)
    assert period_of("weekly", date(2027, 1, 3), MONDAY) == week
    assert period_of("weekly", date(2027, 1, 4), MONDAY) == (week or 0) + 1


@pytest.mark.parametrize(
    ("valid_from", "same", "other"),
    [
        (date(2026, 12, 22), date(2026, 12, 31), date(2027, 1, 4)),
        (date(2026, 12, 31), date(2027, 1, 10), date(2027, 1, 11)),
        (date(2026, 12, 31), date(2026, 12, 28), date(2026, 12, 27)),
    ],
)
def test_pairs_of_weeks_are_counted_over_new_year(
    valid_from: date, same: date, other: date
) -> None:
    pair = period_of("biweekly", valid_from, valid_from)
    assert pair == 0
    assert period_of("biweekly", same, valid_from) == pair
    assert period_of("biweekly", other, valid_from) != pair


def test_without_a_frequency_there_is_no_period() -> None:
    assert period_of(None, MONDAY, MONDAY) is None
    assert next_period_start(None, MONDAY, MONDAY) == date(2026, 6, 2)


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("daily", date(2026, 6, 2)),
        ("weekly", date(2026, 6, 8)),
        ("biweekly", date(2026, 6, 15)),
        ("custom", date(2026, 6, 2)),
    ],
)
def test_the_next_period_begins_where_the_next_session_of_today_is(
    frequency: str, expected: date
) -> None:
    """The days that `next_session_date` reports, for a session on the voucher's first Monday."""
    assert next_period_start(frequency, MONDAY, MONDAY) == expected
