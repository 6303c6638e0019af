"""Public holidays as closures of everybody."""

import asyncio
from datetime import UTC, datetime, time
from typing import Any

import pytest

from services.vouchers.scheduling.public_holidays import PublicHoliday, public_holidays
from services.vouchers.tests.practice import HOME, THERAPIST, ZONE, Practice, at, send
from shared.testing import Database

pytestmark = pytest.mark.anyio

PATH = f"{HOME}/closures/holidays"
BAVARIA = {"country": "DE", "subdivision": "BY", "year": 2027}


def next_holiday() -> PublicHoliday:
    """Return the next public holiday in Poland that can be booked: from three days ahead."""
    first = at(3).date()
    years = (first.year, first.year + 1)
    days = [holiday for year in years for holiday in public_holidays("PL", None, year)]
    return next(holiday for holiday in days if holiday.day >= first)


async def close(practice: Practice, **body: Any) -> dict[str, Any]:
    """Close everybody on the holidays of a year."""
    result: dict[str, Any] = await send(practice.client, "POST", PATH, practice.people.owner, body)
    return result


async def test_reservations_on_a_holiday_are_listed(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(validity_days=800, booking_policy={"opens_days": 730})
    holiday = next_holiday()
    start = datetime.combine(holiday.day, time(10), ZONE)
    reservation = await practice.booked(voucher["id"], starts_at=start, therapist_id=THERAPIST)
    result = await close(practice, country="PL", year=holiday.day.year)
    assert [row["reservation_id"] for row in result["conflicts"]] == [reservation["id"]]
    closure = next(
        row for row in result["closures"] if row["starts_local"].startswith(str(holiday.day))
    )
    assert (closure["source"], closure["reason"]) == ("holiday:PL", holiday.name)
    assert closure["resource_id"] is None
    answer = await practice.book(voucher["id"], starts_at=start.replace(hour=12))
    assert "therapist_unavailable" in [each["code"] for each in answer.json()["reasons"]]


async def test_holidays_can_be_repeated(practice: Practice, database: Database) -> None:
    await practice.type()
    results = await asyncio.gather(*(close(practice, **BAVARIA) for _ in range(4)))
    assert sorted(result["created"] for result in results) == [0, 0, 0, 12]
    assert len({len(result["closures"]) for result in results}) == 1
    rows = await database.rows("SELECT source FROM closures")
    assert [row["source"] for row in rows] == ["holiday:DE-BY"] * 12
    types = [event["type"] for event in await database.events()]
    assert types.count("vouchers.closure.created.v1") == 12
    # Another country or part of it has closures of its own.
    assert (await close(practice, country="DE", year=2027))["created"] == 9
    closure_id = results[0]["closures"][0]["id"]
    await send(practice.client, "DELETE", f"{HOME}/closures/{closure_id}", practice.people.owner)
    assert (await close(practice, **BAVARIA))["created"] == 1


async def test_names_of_holidays_are_no_secret(practice: Practice) -> None:
    await practice.type()
    await close(practice, country="PL", year=2027)
    rows = await send(practice.client, "GET", f"{HOME}/closures", practice.people.staff)
    assert "Nowy Rok" in [row["reason"] for row in rows]


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no country": ({"country": "XX"}, "country", "with known holidays"),
    "lower case": ({"country": "pl"}, "country", "pattern"),
    "no subdivision": ({"subdivision": "ZZ"}, "subdivision", "must be one of BB, BE, BW"),
    "none at all": ({"country": "VA", "subdivision": "X"}, "subdivision", "left out"),
    "year": ({"year": 1999}, "year", "2000"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_other_places_and_years_are_refused(practice: Practice, case: str) -> None:
    await practice.type()
    changes, field, words = REFUSALS[case]
    body = {**BAVARIA, **changes}
    answer = await practice.client.post(PATH, json=body, headers=practice.people.owner)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert words in answer.json()["detail"]


async def test_only_managers_of_bookings_close_everybody(practice: Practice) -> None:
    await practice.type()
    people = practice.people
    for headers, status in (
        (people.therapist, 403),
        (people.client, 403),
        (people.other_owner, 404),
        (people.anonymous, 401),
    ):
        answer = await practice.client.post(PATH, json=BAVARIA, headers=headers)
        assert answer.status_code == status


def test_names_do_not_depend_on_the_locale_of_the_process() -> None:
    [new_year, *_] = public_holidays("PL", None, datetime.now(UTC).year)
    assert new_year.name == "Nowy Rok"
