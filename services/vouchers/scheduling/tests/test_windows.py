"""The algebra of intervals is that of sets, and booking rules are read as hours."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vouchers.scheduling.windows import (
    Interval,
    WeeklyHours,
    contains,
    difference,
    hours_of_rules,
    intersection,
    open_windows,
    union,
)

intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: (pair[0], sum(pair)))
)


def members(parts: list[Interval]) -> set[int]:
    return {number for start, end in parts for number in range(start, end)}


def is_tidy(parts: list[Interval]) -> bool:
    return all(start < end for start, end in parts) and all(
        left[1] < right[0] for left, right in itertools.pairwise(parts)
    )


@given(intervals, intervals, intervals)
def test_intervals_are_sets_of_instants(
    left: list[Interval], right: list[Interval], third: list[Interval]
) -> None:
    a, b = union(left), union(right)
    assert members(a) == members(left)
    assert members(intersection(a, b)) == members(a) & members(b)
    assert members(difference(a, b)) == members(a) - members(b)
    opened = open_windows(a, right, third)
    assert members(opened) == (members(a) | members(b)) - members(third)
    assert all(map(is_tidy, (a, intersection(a, b), difference(a, b), opened)))


def test_an_interval_is_contained_as_a_whole() -> None:
    assert contains([(0, 10), (20, 30)], 20, 30)
    assert not contains([(0, 10), (20, 30)], 5, 25)
    assert not contains([(0, 10), (11, 30)], 5, 25)


@pytest.mark.parametrize(
    ("rules", "hours"),
    [
        ({}, None),
        (
            {"monday": {"enabled": True, "start_time": "09:00", "end_time": "24:00"}},
            (WeeklyHours(1, 540, 1440),),
        ),
        (
            {
                "sunday": {"enabled": True, "start_time": "00:00", "end_time": "23:59"},
                "friday": {"enabled": False, "start_time": "09:00", "end_time": "10:00"},
            },
            (WeeklyHours(7, 0, 1439),),
        ),
        ({"monday": "open"}, ()),
        ({"monday": {"enabled": True}}, ()),
        ({"monday": {"enabled": True, "start_time": "10:00", "end_time": "09:00"}}, ()),
        ({"monday": {"enabled": True, "start_time": "1:00", "end_time": "09:00"}}, ()),
        ({"monday": {"enabled": True, "start_time": "01:60", "end_time": "09:00"}}, ()),
        ({"monday": {"enabled": True, "start_time": "01:00", "end_time": "24:01"}}, ()),
        ({"monday": {"enabled": True, "start_time": 60, "end_time": 120}}, ()),
    ],
)
def test_booking_rules_are_hours_of_weekdays(
    rules: dict[str, Any], hours: tuple[WeeklyHours, ...] | None
) -> None:
    assert hours_of_rules(rules) == hours
