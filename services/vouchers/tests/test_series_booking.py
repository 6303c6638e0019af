"""One time of the week for many sessions, booked in one transaction."""

from datetime import date, datetime
from typing import Any

import httpx
import pytest

from services.vouchers.tests.practice import (
    HOME,
    SECOND_THERAPIST,
    THERAPIST,
    Practice,
    at,
    day_of,
    send,
)
from shared.testing import Database

pytestmark = pytest.mark.anyio

WEEKLY: dict[str, Any] = {"frequency": "weekly", "total_sessions": 5}


def _monday(weeks: int) -> int:
    """Return the number of days from today to a Monday; the first one is next week's."""
    return 8 - at(0).isoweekday() + 7 * weeks


async def _series(
    practice: Practice, voucher: dict[str, Any], first: date, **body: Any
) -> httpx.Response:
    """Book the weekday of a date at 10:00 as the client; return the answer."""
    order = {
        "first_date": str(first),
        "weekdays": [first.isoweekday()],
        "start_time": "10:00",
        "therapist_id": THERAPIST,
        **body,
    }
    headers = order.pop("headers", practice.people.client)
    path = f"/api/vouchers/{voucher['id']}/reservations/series"
    return await practice.client.post(path, json=order, headers=headers)


async def _dates(
    practice: Practice, voucher: dict[str, Any], first: date, **body: Any
) -> list[dict[str, Any]]:
    answer = await _series(practice, voucher, first, **body)
    assert answer.status_code == 200, answer.text
    dates: list[dict[str, Any]] = answer.json()["dates"]
    return dates


def _codes(dates: list[dict[str, Any]]) -> list[str | None]:
    """Return the first reason against each date, or None."""
    return [each["reasons"][0]["code"] if each["reasons"] else None for each in dates]


async def test_all_that_is_left_is_booked_at_one_time(
    practice: Practice, database: Database
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(**WEEKLY)
    first = _monday(1)
    answer = await _series(practice, voucher, day_of(first))
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["bookable_sessions"], result["booked_sessions"]) == (0, 5)
    starts = [datetime.fromisoformat(each["starts_at"]) for each in result["dates"]]
    assert starts == [at(first + 7 * number) for number in range(5)]
    rows = await database.rows("SELECT * FROM reservations ORDER BY starts_at")
    assert [row["id"] for row in rows] == [each["reservation_id"] for each in result["dates"]]
    assert {row["status"] for row in rows} == {"booked"}
    assert len({row["period"] for row in rows}) == 5
    types = [event["type"] for event in await database.events()]
    assert types.count("vouchers.reservation.booked.v1") == 5
    again = await _dates(practice, voucher, day_of(first + 1))
    assert _codes(again) == ["sessions_booked"]
    await practice.require_sums()


async def test_a_dry_run_books_nothing(practice: Practice, database: Database) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(**WEEKLY)
    dates = await _dates(practice, voucher, day_of(_monday(1)), dry_run=True)
    assert [each["bookable"] for each in dates] == [True] * 5
    assert {each["reservation_id"] for each in dates} == {None}
    assert await database.rows("SELECT * FROM reservations") == []
    assert await database.rows("SELECT * FROM sessions") == []


async def _with_a_taken_date(practice: Practice, number: int, **terms: Any) -> dict[str, Any]:
    """Let the therapist have a group on a date; return a voucher for single sessions."""
    await practice.add_therapist()
    taken = {"duration_minutes": 120, "capacity": 2, "therapist_id": THERAPIST}
    await practice.session(starts_at=at(number, 9), **taken)
    return await practice.voucher(**{**WEEKLY, **terms})


async def test_a_date_that_is_taken_is_skipped_with_proposals(practice: Practice) -> None:
    first = _monday(1)
    voucher = await _with_a_taken_date(practice, first + 7)
    dates = await _dates(practice, voucher, day_of(first), count=3)
    assert _codes(dates) == [None, "slot_taken", None]
    proposals = [datetime.fromisoformat(slot["starts_at"]) for slot in dates[1]["proposals"]]
    # A session of 60 minutes fits before 9 and from 11 on.
    assert proposals == [at(first + 7, 11), at(first + 7, 11, 30), at(first + 7, 8)]
    booked = await practice.booked(voucher["id"], starts_at=dates[1]["proposals"][0]["starts_at"])
    assert booked["status"] == "booked"
    await practice.require_sums()


async def test_later_dates_are_appended(practice: Practice) -> None:
    first = _monday(1)
    voucher = await _with_a_taken_date(practice, first + 7)
    dates = await _dates(practice, voucher, day_of(first), count=3, on_conflict="append")
    assert _codes(dates) == [None, "slot_taken", None, None]
    assert dates[-1]["date"] == str(day_of(first + 21))


async def test_nothing_is_booked_if_one_date_fails(practice: Practice, database: Database) -> None:
    first = _monday(1)
    voucher = await _with_a_taken_date(practice, first + 7)
    answer = await _series(practice, voucher, day_of(first), count=3, on_conflict="fail")
    assert (answer.status_code, answer.json()["code"]) == (409, "slot_taken")
    assert _codes(answer.json()["dates"]) == [None, "slot_taken", None]
    assert answer.json()["next_slots"] == answer.json()["dates"][1]["proposals"]
    assert await database.rows("SELECT * FROM reservations") == []
    await practice.require_sums()


async def test_the_frequency_limits_a_series(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(**WEEKLY)
    first = _monday(1)
    dates = await _dates(practice, voucher, day_of(first), weekdays=[1, 3], count=4)
    assert _codes(dates) == [None, "frequency_reached", None, "frequency_reached"]


async def test_every_two_weeks_is_one_session_in_each_pair_of_weeks(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(**{**WEEKLY, "frequency": "biweekly"})
    first = _monday(1)
    appended = await _dates(
        practice, voucher, day_of(first), count=3, on_conflict="append", dry_run=True
    )
    booked = [each["date"] for each in appended if each["bookable"]]
    assert len(booked) == 3
    assert set(_codes(appended)) == {None, "frequency_reached"}
    dates = await _dates(practice, voucher, date.fromisoformat(booked[0]), every_weeks=2, count=3)
    assert _codes(dates) == [None, None, None]
    await practice.require_sums()


async def test_dates_that_are_too_far_ahead(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(**WEEKLY, booking_policy={"opens_days": 20})
    first = _monday(0)
    dates = await _dates(practice, voucher, day_of(first))
    assert _codes(dates)[0] is None
    assert _codes(dates)[-1] == "too_early"
    client = await _series(practice, voucher, day_of(first), override=["too_early"])
    assert client.status_code == 422
    override = {"override": ["too_early"], "override_reason": "Agreed by telephone"}
    client = await _series(practice, voucher, day_of(first), **override)
    assert client.status_code == 403
    left = await _dates(
        practice,
        voucher,
        day_of(first),
        headers=practice.people.owner,
        on_conflict="append",
        **override,
    )
    assert sum(each["bookable"] for each in left) + sum(each["bookable"] for each in dates) == 5
    await practice.require_sums()


async def test_a_series_of_a_class_is_booked(practice: Practice, database: Database) -> None:
    await practice.add_therapist()
    people = practice.people
    lesson = await send(
        practice.client,
        "POST",
        f"{HOME}/classes",
        people.owner,
        {"name": "Yoga", "capacity": 4, "therapist_id": THERAPIST},
    )
    first = _monday(1)
    plan = {
        "therapy_class_id": lesson["id"],
        "weekdays": [1],
        "start_time": "10:00",
        "first_date": str(day_of(first)),
        "last_date": str(day_of(first + 14)),
    }
    await send(practice.client, "POST", f"{HOME}/session-series", people.owner, plan)
    voucher = await practice.voucher(**{**WEEKLY, "max_clients_per_session": 4})
    dates = await _dates(practice, voucher, day_of(first), count=4)
    assert _codes(dates) == [None, None, None, "therapist_unavailable"]
    sessions = await database.rows("SELECT * FROM sessions ORDER BY starts_at")
    assert [each["session_id"] for each in dates[:3]] == [row["id"] for row in sessions]
    assert {row["seats_taken"] for row in sessions} == {1}
    again = await _dates(practice, voucher, day_of(first), count=1)
    assert _codes(again) == ["frequency_reached"]
    await practice.require_sums()


async def test_any_therapist_gives_the_sessions(practice: Practice) -> None:
    first = _monday(1)
    voucher = await _with_a_taken_date(practice, first + 7)
    await practice.add_therapist(SECOND_THERAPIST)
    dates = await _dates(practice, voucher, day_of(first), count=2, therapist_id=None)
    assert _codes(dates) == [None, None]
    assert dates[1]["therapist_id"] == SECOND_THERAPIST


async def test_wrong_series_of_bookings_are_refused(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(**WEEKLY)
    first = day_of(_monday(1))
    for body, status, code in (
        ({"weekdays": []}, 422, None),
        ({"count": 0}, 422, None),
        ({"first_date": str(day_of(-1))}, 422, None),
        ({"start_time": "10:10"}, 409, "start_off_grid"),
        ({"headers": practice.people.staff}, 403, None),
        ({"headers": practice.people.other_owner}, 404, None),
        ({"headers": practice.people.other_client}, 404, None),
    ):
        answer = await _series(practice, voucher, first, **body)
        assert answer.status_code == status, (body, answer.text)
        assert code in (None, answer.json()["code"])
    nobody = await _dates(practice, voucher, first, therapist_id=999, count=1)
    assert _codes(nobody) == ["therapist_unavailable"]
