"""Freezing and extending a voucher, and reversing either."""

from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from services.vouchers.tests.events import deliver, dispute
from services.vouchers.tests.people import (
    People,
    buy,
    expire,
    new_type,
    new_voucher,
    redeem,
    sold_earlier,
)
from shared.db import now
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


def _day(voucher: dict[str, Any], name: str, days: int = 0) -> str:
    return (date.fromisoformat(voucher[name]) + timedelta(days=days)).isoformat()


async def _post(
    client: httpx.AsyncClient,
    headers: dict[str, str],
    voucher: dict[str, Any],
    path: str,
    **body: Any,
) -> httpx.Response:
    return await client.post(
        f"/api/vouchers/{voucher['id']}/{path}", json=body or None, headers=headers
    )


async def _freeze(
    client: httpx.AsyncClient, people: People, voucher: dict[str, Any], first: int, last: int
) -> httpx.Response:
    days = {
        "starts_on": _day(voucher, "valid_from", first),
        "ends_on": _day(voucher, "valid_from", last),
    }
    return await _post(client, people.owner, voucher, "freezes", reason="Ill", **days)


async def test_a_freeze_moves_the_last_day_and_closes_its_own(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await sold_earlier(database, await new_voucher(client, people), 30)
    answer = await _freeze(client, people, voucher, 10, 19)
    assert answer.status_code == 201, answer.text
    frozen = answer.json()
    assert (frozen["kind"], frozen["days"]) == ("freeze", 10)
    assert frozen["valid_until"] == _day(voucher, "valid_until", 10)
    for day, status in ((9, 201), (10, 409), (19, 409), (20, 201)):
        order = {"session_date": _day(voucher, "valid_from", day)}
        spent = await redeem(client, people.therapist, voucher["id"], **order)
        assert spent.status_code == status, day
        if status == 409:
            assert spent.json()["code"] == "voucher_frozen"
    freezes = [event for event in await database.events() if "frozen" in event["type"]]
    [event] = freezes
    assert event["data"]["old_values"] == {"valid_until": voucher["valid_until"]}
    assert event["data"]["new_values"]["reason"] == "Ill"
    assert event["data"]["actor"]["user_id"] == 11


async def test_an_extension_sets_a_later_day(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    later = _day(voucher, "valid_until", 30)
    answer = await _post(
        client, people.owner, voucher, "extensions", valid_until=later, reason="Courtesy"
    )
    assert (answer.status_code, answer.json()["valid_until"]) == (201, later)
    for day, field in (
        (later, "valid_until"),
        (voucher["valid_until"], "valid_until"),
        ("9999-12-31", "valid_until"),
    ):
        refused = await _post(
            client, people.owner, voucher, "extensions", valid_until=day, reason="Again"
        )
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == field
    assert (await database.events())[-1]["type"] == "vouchers.voucher.extended.v1"


async def test_both_are_taken_back_in_any_order(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await sold_earlier(database, await new_voucher(client, people), 30)
    frozen = (await _freeze(client, people, voucher, 10, 19)).json()
    later = _day(voucher, "valid_until", 30)
    extended = (
        await _post(client, people.owner, voucher, "extensions", valid_until=later, reason="x")
    ).json()
    assert extended["days"] == 20
    for made, left in ((frozen, 20), (extended, 0)):
        path = f"adjustments/{made['id']}/reverse"
        back = await _post(client, people.owner, voucher, path)
        assert back.json()["valid_until"] == _day(voucher, "valid_until", left)
        again = await _post(client, people.owner, voucher, path)
        assert again.json()["code"] == "adjustment_already_reversed"
    listed = await client.get(f"/api/vouchers/{voucher['id']}/adjustments", headers=people.client)
    assert [row["reversed_by"] for row in listed.json()] == [11, 11]
    during = {"session_date": _day(voucher, "valid_from", 15)}
    assert (await redeem(client, people.therapist, voucher["id"], **during)).status_code == 201
    types = [event["type"] for event in await database.events()]
    assert types.count("vouchers.voucher.adjustment_reversed.v1") == 2


async def test_an_extension_that_was_used_cannot_be_taken_back(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await sold_earlier(database, await new_voucher(client, people), 89 + 5)
    later = _day(voucher, "valid_until", 5)
    made = (
        await _post(client, people.owner, voucher, "extensions", valid_until=later, reason="x")
    ).json()
    spent = await redeem(client, people.therapist, voucher["id"], session_date=later)
    path = f"adjustments/{made['id']}/reverse"
    refused = await _post(client, people.owner, voucher, path)
    assert (refused.status_code, refused.json()["code"]) == (409, "sessions_beyond_validity")
    await _post(client, people.owner, voucher, f"redemptions/{spent.json()['id']}/reverse")
    assert (await _post(client, people.owner, voucher, path)).status_code == 200


async def test_freezes_neither_overlap_nor_cover_sessions(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await sold_earlier(database, await new_voucher(client, people), 5)
    order = {"session_date": _day(voucher, "valid_from", 5)}
    await redeem(client, people.therapist, voucher["id"], **order)
    assert (await _freeze(client, people, voucher, 10, 19)).status_code == 201
    for first, last, status in (
        (19, 25, 409),
        (5, 10, 409),
        (0, 40, 409),
        (5, 5, 409),
        (6, 9, 201),
        (20, 20, 201),
        (-1, 3, 422),
        (500, 501, 422),
        (30, 29, 422),
    ):
        answer = await _freeze(client, people, voucher, first, last)
        assert answer.status_code == status, (first, last, answer.text)


async def test_only_an_active_voucher_is_adjusted(
    client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    pending = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()
    for path, body in (
        ("freezes", {"starts_on": "2030-01-01", "ends_on": "2030-01-02", "reason": "x"}),
        ("extensions", {"valid_until": "2030-01-01", "reason": "x"}),
    ):
        answer = await _post(client, people.owner, pending, path, **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "voucher_not_active")
        without = {name: value for name, value in body.items() if name != "reason"}
        refused = await _post(client, people.owner, pending, path, **without)
        assert refused.json()["errors"][0]["field"] == "reason"


async def _extend(
    client: httpx.AsyncClient, people: People, voucher: dict[str, Any], days: int
) -> httpx.Response:
    """Extend a voucher to a day this many days from today."""
    later = (now().date() + timedelta(days=days)).isoformat()
    body = {"valid_until": later, "reason": "Was in hospital"}
    return await _post(client, people.owner, voucher, "extensions", **body)


async def test_an_expired_voucher_is_extended_and_used(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await expire(database, await new_voucher(client, people))
    refused = await _extend(client, people, voucher, -2)
    assert refused.status_code == 422, "later than its last day, and over as well"
    assert refused.json()["errors"][0]["field"] == "valid_until"
    assert (await redeem(client, people.therapist, voucher["id"])).status_code == 409
    assert (await _extend(client, people, voucher, 30)).status_code == 201
    assert (await redeem(client, people.therapist, voucher["id"])).status_code == 201
    [event] = [event for event in await database.events() if "extended" in event["type"]]
    old, new = event["data"]["old_values"], event["data"]["new_values"]
    assert (old["status"], new["status"]) == ("expired", "active")
    assert new["reason"] == "Was in hospital"
    assert event["data"]["actor"]["user_id"] == 11


async def test_an_expired_voucher_is_not_frozen_before_it_is_extended(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await expire(database, await new_voucher(client, people))
    refused = await _freeze(client, people, voucher, 10, 19)
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_not_active")
    assert (await _extend(client, people, voucher, 30)).status_code == 201
    assert (await _freeze(client, people, voucher, 10, 19)).status_code == 201


async def test_an_expired_voucher_without_sessions_is_not_extended(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await expire(database, await new_voucher(client, people, total_sessions=1))
    last_day = {"session_date": voucher["valid_until"]}
    assert (await redeem(client, people.therapist, voucher["id"], **last_day)).status_code == 201
    refused = await _extend(client, people, voucher, 30)
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_exhausted")


async def test_an_expired_voucher_whose_money_was_lost_is_not_extended(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await expire(database, await new_voucher(client, people))
    await deliver(transactions, dispute("closed", voucher["id"], 1, "lost"))
    refused = await _extend(client, people, voucher, 30)
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_disputed")


async def test_a_freeze_of_an_expired_voucher_is_reversed_with_a_reason(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """The client came during the freeze, and the session is entered after the last day."""
    voucher = await sold_earlier(database, await new_voucher(client, people), 30)
    frozen = (await _freeze(client, people, voucher, 10, 19)).json()
    voucher = await expire(database, {**voucher, "valid_until": frozen["valid_until"]})
    async with database.admin() as connection:
        await connection.execute(
            "UPDATE adjustments SET starts_on = v.valid_from + 10, ends_on = v.valid_from + 19"
            " FROM vouchers v WHERE v.id = adjustments.voucher_id"
        )
    [row] = await database.rows("SELECT valid_from FROM vouchers")
    during = {"session_date": (row["valid_from"] + timedelta(days=12)).isoformat()}
    answer = await redeem(client, people.therapist, voucher["id"], **during)
    assert answer.json()["code"] == "voucher_frozen"
    path = f"adjustments/{frozen['id']}/reverse"
    refused = await _post(client, people.owner, voucher, path)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "reason")
    reversal = await _post(client, people.owner, voucher, path, reason="She came")
    assert reversal.status_code == 200, reversal.text
    assert reversal.json()["valid_until"] == _day(voucher, "valid_until", -10)
    answer = await redeem(client, people.therapist, voucher["id"], **during)
    assert answer.status_code == 201, answer.text
    [event] = [event for event in await database.events() if "adjustment_rev" in event["type"]]
    new = event["data"]["new_values"]
    assert (new["reason"], new["client_id"]) == ("She came", voucher["client_id"])
    [row] = await database.rows("SELECT status FROM vouchers")
    assert row["status"] == "expired"


async def test_who_adjusts(client: httpx.AsyncClient, people: People) -> None:
    refusals = {"anonymous": 401, "client": 403, "staff": 403, "therapist": 403}
    voucher = await new_voucher(client, people)
    for number, (name, headers) in enumerate(people.all().items()):
        later = _day(voucher, "valid_until", number + 1)
        answer = await _post(client, headers, voucher, "extensions", valid_until=later, reason="x")
        expected = 201 if name in {"admin", "owner", "manager"} else refusals.get(name, 404)
        assert answer.status_code == expected, (name, answer.text)
