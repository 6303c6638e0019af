"""Buying a voucher: every outcome, once for each key, with interruptions."""

import asyncio
from typing import Any

import httpx
import pytest

from services.vouchers.service.codes import ALPHABET, LENGTH
from services.vouchers.tests.outside import (
    CLIENT,
    FREE_CLIENT,
    ORGANIZATION,
    OTHER_CLIENT,
    OTHER_ORGANIZATION,
    SECOND_CLIENT,
    Identity,
    Organizations,
    Payments,
)
from services.vouchers.tests.people import TYPE, People, buy, new_type, types_path
from shared.testing import Database

pytestmark = pytest.mark.anyio

MINE = "/api/vouchers/my"
ISSUE = f"/api/organizations/{ORGANIZATION}/vouchers"


def _types_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("vouchers.") for event in events]


async def test_a_paid_purchase_is_active_with_its_codes(
    client: httpx.AsyncClient, people: People, database: Database, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    answer = await buy(client, people.client, kind["id"], notes="Evenings, please")
    voucher = answer.json()
    assert answer.status_code == 201
    assert '"price":399.99' in answer.text
    assert (voucher["status"], voucher["payment_status"]) == ("active", "paid")
    assert voucher["invoice_number"] == "OUR-2026-000001"
    assert voucher["notes"] == "Evenings, please"
    assert voucher["payment"] == {"transaction_id": 1, "status": "succeeded", "next_action": None}
    assert [code["is_backup"] for code in voucher["codes"]] == [False] * 10 + [True] * 2
    spelled = {code["code"] for code in voucher["codes"]}
    assert len(spelled) == 12
    assert all(len(code) == LENGTH and set(code) <= set(ALPHABET) for code in spelled)
    assert {name: voucher[name] for name in TYPE} == TYPE
    [order] = payments.orders
    assert (order["amount"], order["currency"], order["client_id"]) == (399.99, "PLN", CLIENT)
    assert order["buyer"] == {"name": "Client 21", "email": "client21@example.com"}
    assert (order["seller"]["slug"], order["seller"]["tax_id"]) == ("our-practice", "PL123")


async def test_a_purchase_is_published_in_two_events_without_secrets(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    voucher = (await buy(client, people.client, kind["id"])).json()
    events = (await database.events())[1:]
    assert _types_of(events) == ["voucher.purchased.v1", "voucher.activated.v1"]
    bought = events[0]["data"]["new_values"]
    assert (bought["status"], bought["payment_amount"]) == ("pending", "399.99")
    assert bought["buyer"]["name"] == "Client 21"
    assert bought["seller"]["timezone"] == "Europe/Warsaw"
    paid = events[1]["data"]
    assert (paid["old_values"]["status"], paid["new_values"]["status"]) == ("pending", "active")
    assert paid["actor"]["user_id"] == CLIENT
    kept = str(events) + str(await database.rows("SELECT * FROM vouchers"))
    for secret in ["pm_card_visa", *(code["code"] for code in voucher["codes"])]:
        assert secret not in kept


async def test_a_declined_card_leaves_a_cancelled_voucher_and_states_why(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    answer = await buy(client, people.client, kind["id"], payment_token="pm_declined")
    assert answer.status_code == 402
    assert answer.json()["code"] == "payment_declined"
    assert answer.json()["detail"] == "Insufficient funds."
    [mine] = (await client.get(MINE, headers=people.client)).json()
    assert (mine["status"], mine["payment_status"]) == ("cancelled", "failed")
    events = (await database.events())[1:]
    assert _types_of(events) == ["voucher.purchased.v1", "voucher.cancelled.v1"]
    assert events[1]["data"]["new_values"]["reason"] == "payment_failed"
    assert await database.rows("SELECT 1 FROM voucher_codes") == []


async def test_what_is_no_card_token_is_refused_by_name(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    before = await database.events()
    for token in ("card_4242", "src_123", "pm_", "pm_a b", "pm_4242424242424242", "tok", " pm_a"):
        answer = await buy(client, people.client, kind["id"], payment_token=token)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "payment_token"
        assert "4242" not in answer.text
    assert await database.rows("SELECT 1 FROM vouchers") == []
    assert await database.events() == before, "what is refused leaves no trace"


async def test_a_token_of_no_card_differs_from_a_declined_card(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    answer = await buy(client, people.client, kind["id"], payment_token="pm_unknown")
    assert (answer.status_code, answer.json()["code"]) == (402, "card_token_unknown")
    [voucher] = await database.rows("SELECT status, payment_status FROM vouchers")
    assert (voucher["status"], voucher["payment_status"]) == ("cancelled", "failed")


@pytest.mark.parametrize("field", ["payment_token", "notes", "card_number"])
async def test_a_card_number_is_taken_in_nowhere(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    capfd: pytest.CaptureFixture[str],
    field: str,
) -> None:
    kind = await new_type(client, people.owner)
    for number in ("4242424242424242", "4242 4242 4242 4242"):
        answer = await buy(client, people.client, kind["id"], **{field: number})
        assert (answer.status_code, number in answer.text) == (422, False)
        assert answer.json()["errors"][0]["field"] == field
        note = {"client_id": 1, "voucher_type_id": kind["id"], "notes": f"card {number}"}
        path = f"/api/organizations/{ORGANIZATION}/vouchers"
        answer = await client.post(path, json=note, headers=people.owner)
        assert answer.status_code == 422
        named = {**people.client, "Idempotency-Key": f"pay {number}"}
        assert (await buy(client, named, kind["id"])).status_code == 422
        listed = await client.get(path, params={"q": number}, headers=people.owner)
        assert listed.status_code == 422
        whole = await buy(client, people.client, int(number.replace(" ", "")))
        assert whole.status_code == 422
        assert number not in "".join(capfd.readouterr())
    assert await database.rows("SELECT 1 FROM vouchers") == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"payment_token": "pm_3ds"}, "requires_action"),
        ({"payment_token": None}, "pending"),
        ({"payment_method": "cash", "payment_token": None}, "pending"),
        ({"payment_method": "bank_transfer", "payment_token": None}, "pending"),
    ],
)
async def test_what_is_not_paid_yet_stays_pending_without_codes(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], status: str
) -> None:
    kind = await new_type(client, people.owner)
    answer = await buy(client, people.client, kind["id"], **changes)
    voucher = answer.json()
    assert (answer.status_code, voucher["status"], voucher["codes"]) == (201, "pending", [])
    assert (voucher["valid_from"], voucher["valid_until"]) == (None, None)
    assert voucher["payment"]["status"] == status
    assert (voucher["payment"]["next_action"] is not None) == (status == "requires_action")


async def test_what_costs_nothing_is_active_at_once(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    kind = await new_type(client, people.owner, price=0)
    answer = await buy(client, people.client, kind["id"], payment_token=None)
    assert answer.json()["status"] == "active"
    assert payments.orders[0]["amount"] == 0


async def test_a_later_change_of_the_type_touches_no_sold_voucher(
    client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    voucher = (await buy(client, people.client, kind["id"])).json()
    path = f"{types_path()}/{kind['id']}"
    changes = {"price": 1, "total_sessions": 1, "name": "Cheap", "booking_rules": {}}
    await client.put(path, json=changes, headers=people.owner)
    answer = await client.get(f"/api/vouchers/{voucher['id']}", headers=people.client)
    assert {name: answer.json()[name] for name in TYPE} == TYPE


async def test_what_cannot_be_bought(
    client: httpx.AsyncClient, people: People, organizations: Organizations, database: Database
) -> None:
    ours = await new_type(client, people.owner)
    theirs = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    closed = await new_type(client, people.owner)
    await client.put(f"{types_path()}/{closed['id']}/deactivate", headers=people.owner)

    async def refused(headers: dict[str, str], type_id: int) -> tuple[int, str]:
        answer = await buy(client, headers, type_id)
        return answer.status_code, answer.json()["code"]

    assert await refused(people.client, 999_999) == (404, "voucher_type_not_found")
    assert await refused(people.client, theirs["id"]) == (404, "voucher_type_not_found")
    assert await refused(people.client, closed["id"]) == (409, "voucher_type_not_sold")
    assert await refused(people.free_client, closed["id"]) == (409, "voucher_type_not_sold")
    organizations.known[ORGANIZATION].update(is_active=False, version=2)
    async with database.admin() as connection:
        await connection.execute("UPDATE organization_copies SET is_active = false")
    assert await refused(people.client, ours["id"]) == (409, "organization_inactive")
    assert await database.rows("SELECT 1 FROM vouchers") == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"voucher_type_id": 0}, "voucher_type_id"),
        ({"voucher_type_id": 2**63}, "voucher_type_id"),
        ({"payment_method": "barter"}, "payment_method"),
        ({"payment_method": "cash"}, "payment_token"),
        ({"payment_token": "x" * 501}, "payment_token"),
        ({"price": 1}, "price"),
        ({"organization_id": 8}, "organization_id"),
        ({"notes": "a\x00b"}, "notes"),
    ],
)
async def test_bad_orders_are_refused_by_name(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], field: str
) -> None:
    answer = await buy(client, people.client, 1, **changes)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "pm_card_visa" not in answer.text


async def test_who_may_buy(client: httpx.AsyncClient, people: People) -> None:
    kind = await new_type(client, people.owner)
    expected = {
        "anonymous": 401,
        "admin": 201,
        "client": 201,
        "second_client": 201,
        "free_client": 201,
        "other_client": 404,
    }
    for name, headers in people.all().items():
        answer = await buy(client, headers, kind["id"])
        assert answer.status_code == expected.get(name, 403), (name, answer.text)


async def test_for_whom_one_may_buy(client: httpx.AsyncClient, people: People) -> None:
    kind = await new_type(client, people.owner)
    named = await buy(client, people.client, kind["id"], client_id=CLIENT)
    assert named.json()["client_id"] == CLIENT
    foreign = await buy(client, people.client, kind["id"], client_id=SECOND_CLIENT)
    assert foreign.status_code == 403
    for_client = await buy(client, people.admin, kind["id"], client_id=SECOND_CLIENT)
    assert for_client.json()["client_id"] == SECOND_CLIENT
    for stranger in (OTHER_CLIENT, 999):
        answer = await buy(client, people.admin, kind["id"], client_id=stranger)
        assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")


async def test_staff_issue_to_their_own_clients(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    theirs = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    order = {"client_id": CLIENT, "voucher_type_id": kind["id"], "payment_method": "cash"}
    allowed, foreign = {"admin", "owner", "manager"}, {"other_owner", "other_therapist"}
    foreign |= {"other_client", "free_client"}
    for name, headers in people.all().items():
        answer = await client.post(ISSUE, json=order, headers=headers)
        refused = 401 if name == "anonymous" else 404 if name in foreign else 403
        assert answer.status_code == (201 if name in allowed else refused), (name, answer.text)
    assert {row["status"] for row in await database.rows("SELECT status FROM vouchers")} == {
        "pending"
    }
    for changes, status in (
        ({"client_id": OTHER_CLIENT}, 404),
        ({"client_id": FREE_CLIENT}, 404),
        ({"voucher_type_id": theirs["id"]}, 404),
        ({"payment_method": "credit_card"}, 422),
    ):
        answer = await client.post(ISSUE, json={**order, **changes}, headers=people.owner)
        assert answer.status_code == status, changes


async def test_a_copy_that_would_refuse_is_asked_for_again(
    client: httpx.AsyncClient, people: People, identity: Identity, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    identity.users[CLIENT].update(is_active=False)
    first = await buy(client, people.client, kind["id"])
    assert (first.status_code, first.json()["code"]) == (409, "client_inactive")
    identity.users[CLIENT].update(is_active=True, version=2)
    assert (await buy(client, people.client, kind["id"])).status_code == 201
    asked = identity.calls
    assert (await buy(client, people.client, kind["id"])).status_code == 201
    assert identity.calls == asked, "a good copy is not asked for again"


async def test_one_key_is_one_purchase(
    client: httpx.AsyncClient, people: People, database: Database, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    headers = {**people.client, "Idempotency-Key": "buy-once"}
    payments.pause = 0.2
    answers = await asyncio.gather(*(buy(client, headers, kind["id"]) for _ in range(50)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 201
    assert set(statuses) <= {201, 409}
    assert all(a.headers["retry-after"] for a in answers if a.status_code == 409)
    again = await buy(client, headers, kind["id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == next(a for a in answers if a.status_code == 201).json()
    other = await buy(client, headers, kind["id"], notes="Another body")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    theirs = await buy(client, {**people.second_client, "Idempotency-Key": "buy-once"}, kind["id"])
    assert theirs.json()["client_id"] == SECOND_CLIENT
    assert len(await database.rows("SELECT 1 FROM vouchers")) == 2
    assert len(payments.charged) == 2


async def _let_the_lease_run_out(database: Database) -> None:
    async with database.admin() as connection:
        await connection.execute("UPDATE idempotency_keys SET leased_until = now()")


@pytest.mark.parametrize("moment", ["break_before", "break_after"])
async def test_a_process_that_dies_at_the_charge_is_succeeded_by_the_next_attempt(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    payments: Payments,
    moment: str,
) -> None:
    kind = await new_type(client, people.owner)
    headers = {**people.client, "Idempotency-Key": "survives"}
    setattr(payments, moment, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await buy(client, headers, kind["id"])
    setattr(payments, moment, None)
    assert (await buy(client, headers, kind["id"])).status_code == 409, "the lease still runs"
    await _let_the_lease_run_out(database)
    answer = await buy(client, headers, kind["id"])
    assert (answer.status_code, answer.json()["status"]) == (201, "active")
    assert len(await database.rows("SELECT 1 FROM vouchers")) == 1
    assert len(await database.rows("SELECT 1 FROM voucher_codes")) == 12
    assert payments.charged == [answer.json()["id"]]
    assert _types_of((await database.events())[1:]) == [
        "voucher.purchased.v1",
        "voucher.activated.v1",
    ]


async def test_a_lost_answer_is_503_and_the_same_key_goes_on_at_once(
    client: httpx.AsyncClient, people: People, database: Database, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    headers = {**people.client, "Idempotency-Key": "try-again"}
    payments.break_after = httpx.ReadTimeout("lost")
    lost = await buy(client, headers, kind["id"])
    assert lost.status_code == 503
    assert lost.headers["retry-after"]
    payments.break_after = None
    answer = await buy(client, headers, kind["id"])
    assert answer.status_code == 201
    assert len(payments.charged) == 1
    assert len(await database.rows("SELECT 1 FROM vouchers")) == 1


async def test_a_voucher_cancelled_meanwhile_is_not_charged_by_the_next_attempt(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    headers = {**people.client, "Idempotency-Key": "too-late"}
    payments.break_before = httpx.ConnectError("down")
    assert (await buy(client, headers, kind["id"])).status_code == 503
    [mine] = (await client.get(MINE, headers=people.client)).json()
    await client.post(f"/api/vouchers/{mine['id']}/cancel", headers=people.client)
    payments.break_before = None
    answer = await buy(client, headers, kind["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_cancelled")
    assert payments.charged == []


async def test_a_type_deleted_while_it_is_bought_is_not_found_or_kept(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    for _ in range(5):
        kind = await new_type(client, people.owner)
        bought, deleted = await asyncio.gather(
            buy(client, people.client, kind["id"]),
            client.delete(f"{types_path()}/{kind['id']}", headers=people.owner),
        )
        assert deleted.status_code == 200
        assert bought.status_code in (201, 404, 409), bought.text


async def test_a_buyer_may_insist_on_the_price_they_saw(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    seen = {"voucher_type_version": kind["version"]}
    path = f"{types_path()}/{kind['id']}"
    await client.put(path, json={"price": 500}, headers=people.owner)
    refused = await buy(client, people.client, kind["id"], **seen)
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_type_changed")
    assert (await client.get("/api/vouchers/my", headers=people.client)).json() == []
    now_seen = {"voucher_type_version": kind["version"] + 1}
    bought = await buy(client, people.client, kind["id"], **now_seen)
    assert (bought.status_code, bought.json()["price"]) == (201, 500)
