"""Bookings where the calendar or the clock is not as usual: New Year, midnight, daylight saving."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.vouchers.tests.outside import ORGANIZATION
from services.vouchers.tests.people import People
from services.vouchers.tests.practice import HOME, THERAPIST, ZONE, Practice, at, day_of, send
from shared.testing import Database

pytestmark = pytest.mark.anyio

ALL_DAY = [
    {"weekday": weekday, "start_time": "00:00", "end_time": "24:00"} for weekday in range(1, 8)
]
FAR_AHEAD = {"validity_days": 730, "booking_policy": {"opens_days": 730}}


def _days_ahead() -> Iterator[date]:
    """Yield the days of the next year, from the one after tomorrow."""
    return (day_of(number) for number in range(2, 380))


def _local(day: date, hour: int, minute: int = 0, *, fold: int = 0) -> datetime:
    """Return the instant of a time of the organization's clock, with its offset."""
    local = datetime(day.year, day.month, day.day, hour, minute, fold=fold, tzinfo=ZONE)
    return local.astimezone(UTC).astimezone(ZONE)


def _repeats(day: date, hour: int) -> bool:
    return _local(day, hour).utcoffset() != _local(day, hour, fold=1).utcoffset()


def _codes(answer: Any) -> list[str]:
    assert answer.status_code == 409, answer.text
    return [reason["code"] for reason in answer.json()["reasons"]]


@pytest.mark.parametrize("frequency", ["weekly", "biweekly"])
async def test_an_iso_week_is_one_period_over_new_year(practice: Practice, frequency: str) -> None:
    await practice.add_therapist(hours=ALL_DAY)
    voucher = await practice.voucher(frequency=frequency, **FAR_AHEAD)
    new_year = next(
        day for day in _days_ahead() if (day.month, day.day) == (1, 1) and day.weekday() > 0
    )
    eve = new_year - timedelta(days=1)
    assert eve.isocalendar()[:2] == new_year.isocalendar()[:2]
    await practice.booked(voucher["id"], starts_at=_local(eve, 10), therapist_id=THERAPIST)
    again = await practice.book(
        voucher["id"], starts_at=_local(new_year, 10), therapist_id=THERAPIST
    )
    assert _codes(again) == ["frequency_reached"]
    [reason] = again.json()["reasons"]
    next_period = date.fromisoformat(reason["until"])
    assert (next_period.weekday(), next_period > new_year) == (0, True)
    await practice.booked(voucher["id"], starts_at=_local(next_period, 10), therapist_id=THERAPIST)
    await practice.require_sums()


async def test_a_time_that_the_clock_shows_twice_is_booked_twice(practice: Practice) -> None:
    await practice.add_therapist(hours=ALL_DAY)
    kind = await practice.type(session_duration_minutes=30, **FAR_AHEAD)
    first = await practice.voucher_of(practice.people.client, kind["id"])
    second = await practice.voucher_of(practice.people.second_client, kind["id"])
    day = next(d for d in _days_ahead() if _local(d, 2).hour == 2 and _repeats(d, 2))
    path = f"/api/vouchers/{first['id']}/slots?from={day}&until={day}&limit=200"
    slots = await send(practice.client, "GET", path, practice.people.client)
    starts = [slot["starts_at"] for slot in slots if slot["starts_at"][11:16] == "02:30"]
    assert [text[16:] for text in starts] == [":00+02:00", ":00+01:00"]
    for voucher, headers, starts_at in (
        (first, practice.people.client, starts[0]),
        (second, practice.people.second_client, starts[1]),
    ):
        booked = await practice.booked(
            voucher["id"], headers, starts_at=starts_at, therapist_id=THERAPIST
        )
        assert booked["starts_at"] == starts_at
    await practice.require_sums()


async def test_a_time_that_the_clock_skips_is_not_offered(practice: Practice) -> None:
    await practice.add_therapist(hours=ALL_DAY)
    voucher = await practice.voucher(session_duration_minutes=30, **FAR_AHEAD)
    day = next(d for d in _days_ahead() if _local(d, 2, 30).hour != 2)
    path = f"/api/vouchers/{voucher['id']}/slots?from={day}&until={day}&limit=200"
    slots = await send(practice.client, "GET", path, practice.people.client)
    clock = [slot["starts_at"][11:16] for slot in slots]
    assert "01:30" in clock
    assert "03:00" in clock
    assert not [text for text in clock if text.startswith("02")]


async def test_a_session_over_midnight(practice: Practice) -> None:
    await practice.add_therapist(hours=ALL_DAY)
    kind = await practice.type(session_duration_minutes=60)
    first = await practice.voucher_of(practice.people.client, kind["id"])
    second = await practice.voucher_of(practice.people.second_client, kind["id"])
    booked = await practice.booked(first["id"], starts_at=at(3, 23, 30), therapist_id=THERAPIST)
    assert datetime.fromisoformat(booked["ends_at"]) == at(4, 0, 30)
    answer = await practice.book(
        second["id"], practice.people.second_client, starts_at=at(4), therapist_id=THERAPIST
    )
    assert answer.status_code == 201
    answer = await practice.book(
        second["id"], practice.people.second_client, starts_at=at(4, 0), therapist_id=THERAPIST
    )
    assert "slot_taken" in _codes(answer)
    await practice.require_sums()


async def test_the_last_day_lasts_until_midnight_of_the_organization(practice: Practice) -> None:
    await practice.add_therapist(hours=ALL_DAY)
    voucher = await practice.voucher(session_duration_minutes=30, validity_days=5)
    last_day = date.fromisoformat(voucher["valid_until"])
    after = last_day + timedelta(days=1)
    refused = await practice.book(voucher["id"], starts_at=_local(after, 0), therapist_id=THERAPIST)
    assert _codes(refused) == ["voucher_expired"]
    booked = await practice.booked(
        voucher["id"], starts_at=_local(last_day, 23, 30), therapist_id=THERAPIST
    )
    assert datetime.fromisoformat(booked["ends_at"]) == _local(after, 0)


async def test_a_slot_that_was_shown_and_then_taken_is_refused_with_others(
    practice: Practice,
) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    first = await practice.voucher_of(practice.people.client, kind["id"])
    second = await practice.voucher_of(practice.people.second_client, kind["id"])
    path = f"/api/vouchers/{first['id']}/slots?from={day_of(3)}&until={day_of(3)}"
    [slot, *_] = await send(practice.client, "GET", path, practice.people.client)
    choice = {name: slot[name] for name in ("starts_at", "therapist_id")}
    await practice.booked(second["id"], practice.people.second_client, **choice)
    refused = await practice.book(first["id"], **choice)
    assert _codes(refused) == ["slot_taken"]
    offered = refused.json()["next_slots"]
    assert offered
    assert slot["starts_at"] not in [each["starts_at"] for each in offered]
    choice = {name: offered[0][name] for name in ("starts_at", "therapist_id")}
    await practice.booked(first["id"], **choice)


async def test_booked_times_stay_when_the_organization_moves_to_another_zone(
    practice: Practice, people: People, database: Database
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    booked = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE organization_copies SET timezone = 'America/New_York', version = version + 1"
            " WHERE id = $1",
            ORGANIZATION,
        )
    path = f"/api/reservations/{booked['id']}"
    later = await send(practice.client, "GET", path, people.client)
    assert (later["starts_at"], later["timezone"]) == (booked["starts_at"], "Europe/Warsaw")
    sessions = await send(
        practice.client,
        "GET",
        f"{HOME}/sessions?from={_query(at(3, 0))}&until={_query(at(4, 0))}",
        people.owner,
    )
    assert [datetime.fromisoformat(each["starts_at"]) for each in sessions] == [at(3)]


def _query(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
