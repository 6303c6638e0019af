"""Voucher types: their rules, who may change them, and how they are taken off sale."""

import base64
import json
from typing import Any

import httpx
import pytest

from services.vouchers.tests.outside import ORGANIZATION, OTHER_ORGANIZATION, Organizations
from services.vouchers.tests.people import TYPE, People, buy, new_type, types_path
from shared.testing import Database

pytestmark = pytest.mark.anyio

OPEN_DAY = {"enabled": True, "start_time": "09:00", "end_time": "17:00"}


async def test_everything_comes_back_as_it_was_sent(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    made = await new_type(client, people.owner)
    assert {name: made[name] for name in TYPE} == TYPE
    assert (made["currency"], made["custom_days"], made["is_active"]) == ("PLN", None, True)
    raw = await client.get(f"{types_path()}/{made['id']}", headers=people.client)
    assert '"price":399.99' in raw.text
    assert raw.headers["etag"] == '"1"'
    [event] = await database.events()
    assert event["type"] == "vouchers.voucher_type.created.v1"
    assert event["data"]["new_values"]["price"] == "399.99"
    assert event["data"]["actor"]["user_id"] == 11
    assert event["data"]["organization_id"] == ORGANIZATION


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        (
            {"booking_rules": {"monday": {**OPEN_DAY, "start_time": "9:00"}}},
            "monday.start_time",
            "",
        ),
        ({"booking_rules": {"monday": {**OPEN_DAY, "end_time": "24:01"}}}, "monday.end_time", ""),
        (
            {"booking_rules": {"monday": {**OPEN_DAY, "start_time": "24:00"}}},
            "monday.start_time",
            "",
        ),
        ({"booking_rules": {"monday": {**OPEN_DAY, "end_time": "09:00"}}}, "monday.end_time", ""),
        ({"booking_rules": {"monday": {"enabled": True}}}, "monday.start_time", "HH:MM"),
        (
            {"booking_rules": {"monday": {"enabled": True, "start_time": "09:00"}}},
            "monday.end_time",
            "HH:MM",
        ),
        ({"booking_rules": {"monday": {**OPEN_DAY, "pause": "12:00"}}}, "monday.pause", ""),
        ({"booking_rules": {"monday": {**OPEN_DAY, "enabled": "yes"}}}, "monday.enabled", ""),
        ({"booking_rules": {"monday": None}}, "monday", ""),
        ({"booking_rules": {"Monday": OPEN_DAY}}, "Monday", "monday, tuesday"),
        ({"booking_rules": {"funday": OPEN_DAY}}, "funday", "monday, tuesday"),
        ({"booking_rules": []}, "", ""),
    ],
)
async def test_booking_rules_are_refused_by_name(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], field: str, message: str
) -> None:
    body = {**TYPE, **changes}
    made = await new_type(client, people.owner)
    for answer in (
        await client.post(types_path(), json=body, headers=people.owner),
        await client.put(f"{types_path()}/{made['id']}", json=changes, headers=people.owner),
    ):
        assert answer.status_code == 422, answer.text
        error = answer.json()["errors"][0]
        assert error["field"] == f"booking_rules.{field}".rstrip(".")
        assert message in error["message"]


async def test_a_day_may_be_open_until_midnight(client: httpx.AsyncClient, people: People) -> None:
    rules = {"monday": {**OPEN_DAY, "end_time": "24:00"}}
    voucher_type = await new_type(client, people.owner, booking_rules=rules)
    assert voucher_type["booking_rules"] == rules


async def test_a_policy_by_which_nothing_can_be_booked_is_refused(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher_type = await new_type(client, people.owner)
    path = f"{types_path()}/{voucher_type['id']}"
    settings = f"/api/organizations/{ORGANIZATION}/booking-settings"
    for default, policy in (
        ({}, {"opens_days": 1, "closes_minutes": 1440}),
        # Of the organization's policy and that of the type, each alone would do.
        ({"closes_minutes": 1440}, {"opens_days": 1}),
        ({"opens_days": 1}, {"closes_minutes": 1440}),
    ):
        body = {"default_policy": default}
        assert (await client.put(settings, json=body, headers=people.owner)).status_code == 200
        for answer in (
            await client.post(
                types_path(), json={**TYPE, "booking_policy": policy}, headers=people.owner
            ),
            await client.put(path, json={"booking_policy": policy}, headers=people.owner),
        ):
            assert answer.status_code == 422, answer.text
            [error] = answer.json()["errors"]
            assert error["field"] == "booking_policy.closes_minutes"
    accepted = {"booking_policy": {"opens_days": 2, "closes_minutes": 1440}}
    assert (await client.put(path, json=accepted, headers=people.owner)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"total_sessions": 0}, "total_sessions"),
        ({"total_sessions": 10.5}, "total_sessions"),
        ({"total_sessions": True}, "total_sessions"),
        ({"total_sessions": 10**9}, "total_sessions"),
        ({"backup_sessions": -1}, "backup_sessions"),
        ({"session_duration_minutes": 0}, "session_duration_minutes"),
        ({"session_duration_minutes": 1441}, "session_duration_minutes"),
        ({"max_clients_per_session": 0}, "max_clients_per_session"),
        ({"frequency": "monthly"}, "frequency"),
        ({"frequency": "custom"}, "custom_days"),
        ({"frequency": "weekly", "custom_days": [1]}, "custom_days"),
        ({"frequency": "custom", "custom_days": []}, "custom_days"),
        ({"frequency": "custom", "custom_days": [1, 1]}, "custom_days"),
        ({"frequency": "custom", "custom_days": [8]}, "custom_days.0"),
        ({"price": -0.01}, "price"),
        ({"price": 1.999}, "price"),
        ({"price": 10**11}, "price"),
        ({"price": "NaN"}, "price"),
        ({"currency": "zloty"}, "currency"),
        ({"currency": "ABC"}, "currency"),
        ({"validity_days": 0}, "validity_days"),
        ({"organization_id": OTHER_ORGANIZATION}, "organization_id"),
        ({"is_active": False}, "is_active"),
    ],
)
async def test_bad_terms_are_refused_by_name(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], field: str
) -> None:
    answer = await client.post(types_path(), json={**TYPE, **changes}, headers=people.owner)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("price", "shown"),
    [("399.9", "399.90"), ("400", "400.00"), ("1.0", "1.00"), ('"399.99"', "399.99")],
)
async def test_a_price_is_a_number_or_the_text_of_one(
    client: httpx.AsyncClient, people: People, price: str, shown: str
) -> None:
    content = json.dumps({**TYPE, "price": 0}).replace('"price": 0', f'"price": {price}')
    headers = {**people.owner, "Content-Type": "application/json"}
    answer = await client.post(types_path(), content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    assert f'"price":{shown}' in answer.text


@pytest.mark.parametrize("price", [True, "1_0", "１０", " 04 ", "+1", "1e2", "1.005", "", "NaN"])
async def test_what_is_no_price(client: httpx.AsyncClient, people: People, price: object) -> None:
    answer = await client.post(types_path(), json={**TYPE, "price": price}, headers=people.owner)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "price"


async def test_a_price_is_one_that_its_currency_has(
    client: httpx.AsyncClient, people: People
) -> None:
    body = {**TYPE, "currency": "JPY"}
    refused = await client.post(types_path(), json=body, headers=people.owner)
    assert refused.json()["errors"] == [
        {"field": "price", "message": "must be a whole number: JPY has no decimals"}
    ]
    yen = await new_type(client, people.owner, price=4000, currency="JPY")
    zloty = await new_type(client, people.owner)
    for kind, change in ((yen, {"price": 0.5}), (zloty, {"currency": "JPY"})):
        path = f"{types_path()}/{kind['id']}"
        answer = await client.put(path, json=change, headers=people.owner)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "price")


async def test_custom_days_belong_to_the_custom_frequency(
    client: httpx.AsyncClient, people: People
) -> None:
    made = await new_type(client, people.owner, frequency="custom", custom_days=[5, 1])
    assert made["custom_days"] == [5, 1]
    path = f"{types_path()}/{made['id']}"
    refused = await client.put(path, json={"custom_days": None}, headers=people.owner)
    assert refused.json()["errors"][0]["field"] == "custom_days"
    weekly = await client.put(path, json={"frequency": "weekly"}, headers=people.owner)
    assert weekly.json()["custom_days"] is None
    again = await client.put(path, json={"frequency": "custom"}, headers=people.owner)
    assert again.status_code == 422
    days = {"frequency": "custom", "custom_days": [2]}
    assert (await client.put(path, json=days, headers=people.owner)).json()["custom_days"] == [2]


async def test_a_partial_update_publishes_what_changed_and_a_stale_one_is_refused(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    made = await new_type(client, people.owner)
    path = f"{types_path()}/{made['id']}"
    fresh = {**people.owner, "If-Match": '"1"'}
    changed = await client.put(path, json={"price": 400}, headers=fresh)
    assert changed.json()["price"] == 400
    assert changed.headers["etag"] == '"2"'
    assert (await client.put(path, json={"price": 1}, headers=fresh)).status_code == 412
    assert (await client.put(path, json={"name": None}, headers=people.owner)).status_code == 422
    same = await client.put(path, json={"price": 400.00}, headers=people.owner)
    assert same.headers["etag"] == '"2"'
    events = await database.events()
    assert len(events) == 2, "no event without a change"
    assert events[1]["data"]["old_values"] == {"price": "399.99"}
    assert events[1]["data"]["new_values"] == {"price": "400.00"}


async def test_who_may_manage_voucher_types(client: httpx.AsyncClient, people: People) -> None:
    expected = {
        "anonymous": 401,
        "admin": 200,
        "owner": 200,
        "manager": 200,
        "therapist": 403,
        "staff": 403,
        "client": 403,
        "second_client": 403,
        "other_owner": 404,
        "other_therapist": 404,
        "other_client": 404,
        "free_client": 404,
    }
    made = await new_type(client, people.owner)
    path = f"{types_path()}/{made['id']}"
    for name, headers in people.all().items():
        created = await client.post(types_path(), json=TYPE, headers=headers)
        assert created.status_code == (201 if expected[name] == 200 else expected[name]), name
        for method, target, body in (
            ("PUT", path, {"description": name}),
            ("PUT", f"{path}/deactivate", None),
            ("PUT", f"{path}/activate", None),
        ):
            answer = await client.request(method, target, json=body, headers=headers)
            assert answer.status_code == expected[name], (name, target)
            if answer.status_code == 403:
                assert answer.json()["detail"].startswith("Not authorized")
        if expected[name] != 200:
            assert (await client.delete(path, headers=headers)).status_code == expected[name]


async def test_members_read_and_strangers_do_not(client: httpx.AsyncClient, people: People) -> None:
    made = await new_type(client, people.owner)
    foreign = {"other_owner", "other_therapist", "other_client", "free_client"}
    for name, headers in people.all().items():
        expected = 401 if name == "anonymous" else 404 if name in foreign else 200
        for path in (types_path(), f"{types_path()}/{made['id']}"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == expected, (name, path)
    own = f"{types_path(OTHER_ORGANIZATION)}/{made['id']}"
    for method in ("GET", "PUT", "DELETE"):
        body = {"name": "Mine now"} if method == "PUT" else None
        answer = await client.request(method, own, json=body, headers=people.other_owner)
        assert answer.status_code == 404, "another organization's id under one's own"


async def test_an_unknown_organization_is_404_for_an_administrator(
    client: httpx.AsyncClient, people: People
) -> None:
    answer = await client.post(types_path(999), json=TYPE, headers=people.admin)
    assert (answer.status_code, answer.json()["code"]) == (404, "organization_not_found")
    huge = await client.post(types_path(2**63), json=TYPE, headers=people.admin)
    assert huge.status_code == 422


async def test_offers_are_what_the_caller_can_buy(
    client: httpx.AsyncClient, people: People, organizations: Organizations
) -> None:
    ours = await new_type(client, people.owner)
    theirs = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    closed = await new_type(client, people.owner)
    await client.put(f"{types_path()}/{closed['id']}/deactivate", headers=people.owner)

    async def offered(headers: dict[str, str], query: str = "") -> list[int]:
        answer = await client.get(f"/api/voucher-types/available{query}", headers=headers)
        return [offer["id"] for offer in answer.json()]

    assert await offered(people.client) == [ours["id"]]
    assert await offered(people.therapist) == [ours["id"]]
    assert await offered(people.other_client) == [theirs["id"]]
    assert await offered(people.free_client) == [theirs["id"], ours["id"]]
    assert await offered(people.admin) == [theirs["id"], ours["id"]]
    only = f"?organization_id={ORGANIZATION}"
    assert await offered(people.free_client, only) == [ours["id"]]
    assert await offered(people.other_client, only) == []
    [offer] = (await client.get("/api/voucher-types/available", headers=people.client)).json()
    assert offer["payment_methods"] == ["credit_card", "bank_transfer", "cash", "other"]
    anonymous = await client.get("/api/voucher-types/available")
    assert anonymous.status_code == 401
    assert organizations.calls == 2, "one read-through for each organization"


async def test_what_was_never_sold_is_deleted_and_what_was_sold_is_kept(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    unsold, sold = await new_type(client, people.owner), await new_type(client, people.owner)
    assert (await buy(client, people.client, sold["id"])).status_code == 201
    for kind in (unsold, sold):
        path = f"{types_path()}/{kind['id']}"
        answer = await client.delete(path, headers=people.owner)
        assert answer.json() == {"message": "Voucher type deleted successfully"}
    assert (await client.delete(f"{types_path()}/{unsold['id']}", headers=people.owner)).status_code
    [kept] = await database.rows("SELECT id, is_active, deactivated_at FROM voucher_types")
    assert (kept["id"], kept["is_active"]) == (sold["id"], False)
    assert kept["deactivated_at"] is not None
    events = await database.events()
    types = [event["type"].split(".")[2] for event in events if "voucher_type" in event["type"]]
    assert types == ["created", "created", "deleted", "deactivated"]
    deleted = next(event for event in events if event["data"]["action"] == "DELETE")
    assert deleted["data"]["old_values"]["name"] == TYPE["name"]


async def test_lists_page_and_filter(client: httpx.AsyncClient, people: People) -> None:
    made = [(await new_type(client, people.owner, name=f"Type {n}"))["id"] for n in range(5)]
    await client.put(f"{types_path()}/{made[0]}/deactivate", headers=people.owner)
    seen: list[int] = []
    path: str | None = f"{types_path()}?limit=2&is_active=true"
    while path:
        answer = await client.get(path, headers=people.client)
        seen += [row["id"] for row in answer.json()]
        path = answer.links.get("next", {}).get("url")
    assert seen == made[:0:-1]
    far = base64.urlsafe_b64encode(b"[4611686018427387904]").decode()
    answer = await client.get(f"{types_path()}?cursor={far}", headers=people.client)
    assert len(answer.json()) == 5, "ids outgrow 32 bits one day"


async def test_one_key_creates_one_type(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    headers = {**people.owner, "Idempotency-Key": "create-once"}
    first = await client.post(types_path(), json=TYPE, headers=headers)
    again = await client.post(types_path(), json=TYPE, headers=headers)
    assert again.json() == first.json()
    assert again.headers["etag"] == first.headers["etag"]
    other = await client.post(types_path(), json={**TYPE, "name": "Other"}, headers=headers)
    assert other.status_code == 422
    assert len(await database.rows("SELECT 1 FROM voucher_types")) == 1
