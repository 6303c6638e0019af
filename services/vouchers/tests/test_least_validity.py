"""The least validity of a voucher type: nobody sells or makes a paid voucher that is shorter."""

from datetime import date, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from services.vouchers.models.validity import least_last_day, shortest_validity
from services.vouchers.tests.people import TYPE, People, buy, new_type, new_voucher, types_path
from shared.testing import Database

pytestmark = pytest.mark.anyio

GERMANY = {"validity_days": 1096, "least_validity_years": 3}


@pytest.mark.parametrize(
    ("first", "months", "last"),
    [
        (date(2026, 3, 1), 1, date(2026, 3, 31)),
        (date(2026, 1, 15), 36, date(2029, 1, 14)),
        (date(2026, 1, 30), 1, date(2026, 2, 28)),
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2027, 12, 31), 2, date(2028, 2, 29)),
        (date(2026, 12, 1), 12, date(2027, 11, 30)),
    ],
    ids=str,
)
def test_months_end_before_the_same_day(first: date, months: int, last: date) -> None:
    assert least_last_day(first, first, months=months, years=None) == last


def test_years_end_with_the_year_after_that_of_the_purchase() -> None:
    """Whoever pays in January for a voucher of December has the year of December."""
    paid_on, purchase_date = date(2027, 1, 4), date(2026, 12, 30)
    last = least_last_day(paid_on, purchase_date, months=None, years=3)
    assert last == date(2029, 12, 31)


@pytest.mark.parametrize("months", [1, 2, 3, 5, 12, 36, 48, 120])
def test_the_shortest_months_are_those_of_some_day(months: int) -> None:
    days = [date(2096, 1, 1) + timedelta(days=number) for number in range(4 * 366)]
    lengths = set()
    for day in days:
        last = least_last_day(day, day, months=months, years=None)
        assert last is not None
        lengths.add((last - day).days + 1)
    assert min(lengths) == shortest_validity(months=months, years=None)


@pytest.mark.parametrize(("years", "days"), [(1, 366), (3, 1096), (4, 1461), (10, 3652)])
def test_the_shortest_years_begin_on_the_last_day_of_one(years: int, days: int) -> None:
    assert shortest_validity(months=None, years=years) == days


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"validity_days": 1095, "least_validity_years": 3}, "validity_days", "at least 1096"),
        ({"validity_days": 364, "least_validity_months": 12}, "validity_days", "at least 365"),
        (
            {"validity_days": 3650, "least_validity_months": 1, "least_validity_years": 1},
            "least_validity_years",
            "must be null",
        ),
        ({"least_validity_years": 0}, "least_validity_years", ""),
        ({"least_validity_years": 11}, "least_validity_years", ""),
        ({"least_validity_months": 121}, "least_validity_months", ""),
        ({"least_validity_months": "12"}, "least_validity_months", ""),
    ],
    ids=["years", "months", "both", "no_years", "many_years", "many_months", "text"],
)
async def test_a_shorter_validity_is_refused(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], field: str, message: str
) -> None:
    voucher_type = await new_type(client, people.owner)
    path = f"{types_path()}/{voucher_type['id']}"
    for answer in (
        await client.post(types_path(), json={**TYPE, **changes}, headers=people.owner),
        await client.put(path, json=changes, headers=people.owner),
    ):
        assert answer.status_code == 422, answer.text
        [error] = answer.json()["errors"]
        assert error["field"] == field
        assert message in error["message"]


async def test_a_change_of_either_field_is_compared_with_the_other(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher_type = await new_type(client, people.owner, **GERMANY)
    path = f"{types_path()}/{voucher_type['id']}"
    shorter = await client.put(path, json={"validity_days": 1095}, headers=people.owner)
    assert shorter.status_code == 422
    both = await client.put(path, json={"least_validity_months": 1}, headers=people.owner)
    assert both.json()["errors"][0]["field"] == "least_validity_years"
    free = await client.put(path, json={"validity_days": 30, "price": 0}, headers=people.owner)
    assert free.status_code == 200, "it concerns paid vouchers only"
    paid = await client.put(path, json={"price": 10}, headers=people.owner)
    assert paid.json()["errors"][0]["field"] == "validity_days"


async def test_a_paid_voucher_lasts_to_the_end_of_the_third_year(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people, **GERMANY)
    last_day = f"{int(voucher['purchase_date'][:4]) + 3}-12-31"
    assert (voucher["valid_until"], voucher["least_valid_until"]) == (last_day, last_day)
    assert (voucher["least_validity_years"], voucher["least_validity_months"]) == (3, None)
    longer = await new_voucher(client, people, **{**GERMANY, "validity_days": 3650})
    days = date.fromisoformat(longer["valid_until"]) - date.fromisoformat(longer["valid_from"])
    assert (days.days, longer["least_valid_until"]) == (3649, last_day)


async def test_a_free_voucher_has_no_least_validity(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people, price=0, validity_days=30, least_validity_months=12)
    days = date.fromisoformat(voucher["valid_until"]) - date.fromisoformat(voucher["valid_from"])
    assert (days.days, voucher["least_valid_until"]) == (29, None)


async def test_a_sold_voucher_keeps_the_rule_that_its_type_loses(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher_type = await new_type(client, people.owner, **GERMANY)
    pending = (await buy(client, people.client, voucher_type["id"], payment_token="pm_3ds")).json()
    path = f"{types_path()}/{voucher_type['id']}"
    changes = {"least_validity_years": None, "validity_days": 30}
    assert (await client.put(path, json=changes, headers=people.owner)).status_code == 200
    shown = await client.get(f"/api/vouchers/{pending['id']}", headers=people.client)
    assert (shown.json()["least_validity_years"], shown.json()["validity_days"]) == (3, 1096)


async def test_staff_do_not_shorten_a_voucher_below_it(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """As after an operator corrected the rule of a voucher that was sold without one."""
    voucher = await new_voucher(client, people)
    later = (date.fromisoformat(voucher["valid_until"]) + timedelta(days=30)).isoformat()
    path = f"/api/vouchers/{voucher['id']}"
    body = {"valid_until": later, "reason": "Courtesy"}
    extension = await client.post(f"{path}/extensions", json=body, headers=people.owner)
    async with database.admin() as admin:
        await admin.execute("UPDATE vouchers SET least_valid_until = valid_until - 1")
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute("UPDATE vouchers SET valid_until = valid_until - 2")
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute("UPDATE vouchers SET least_valid_until = NULL")
    reversal = f"{path}/adjustments/{extension.json()['id']}/reverse"
    refused = await client.post(reversal, headers=people.owner)
    assert (refused.status_code, refused.json()["code"]) == (409, "least_validity_undercut")
