"""Dependants hold vouchers and reservations; the guardian acts for them and pays."""

from typing import Any

import httpx
import pytest

from services.vouchers.tests.events import deliver, event
from services.vouchers.tests.outside import (
    CHILD,
    CLIENT,
    ORGANIZATION,
    OTHER_CLIENT,
    SECOND_CLIENT,
    Identity,
    Payments,
)
from services.vouchers.tests.people import Headers, People, buy, new_type, redeem
from services.vouchers.tests.practice import SECOND_THERAPIST, THERAPIST, Practice, at
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _voucher(client: httpx.AsyncClient, people: People, **terms: Any) -> dict[str, Any]:
    """Buy a voucher for the child as its guardian."""
    voucher_type = await new_type(client, people.owner, **terms)
    answer = await buy(client, people.client, voucher_type["id"], client_id=CHILD)
    assert answer.status_code == 201, answer.text
    voucher: dict[str, Any] = answer.json()
    return voucher


async def test_a_guardian_buys_and_pays(
    client: httpx.AsyncClient, people: People, payments: Payments, database: Database
) -> None:
    voucher = await _voucher(client, people)
    assert (voucher["client_id"], voucher["status"]) == (CHILD, "active")
    [order] = payments.orders
    assert order["client_id"] == CLIENT, "the payment is the guardian's"
    assert order["buyer"] == {"name": "Client 21", "email": "client21@example.com"}
    [bought] = [e["data"] for e in await database.events() if "purchased" in e["type"]]
    values = bought["new_values"]
    assert (values["client_id"], values["payer_id"]) == (CHILD, CLIENT)
    assert values["buyer"]["name"] == "Client 21"
    assert "guardian_id" not in values
    listed = await client.get("/api/vouchers/my", headers=people.client)
    assert [row["id"] for row in listed.json()] == [voucher["id"]]
    shown = await client.get(f"/api/vouchers/{voucher['id']}", headers=people.client)
    assert len(shown.json()["codes"]) == 12
    # Our copies exist now: the second purchase calls nobody.
    again = await buy(client, people.client, voucher["voucher_type_id"], client_id=CHILD)
    assert (again.status_code, again.json()["client_id"]) == (201, CHILD)


async def test_a_purchase_of_ones_own_names_no_payer(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher_type = await new_type(client, people.owner)
    await buy(client, people.client, voucher_type["id"])
    [bought] = [e["data"] for e in await database.events() if "purchased" in e["type"]]
    assert "payer_id" not in bought["new_values"]


async def test_a_repeated_purchase_charges_the_guardian_once(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher_type = await new_type(client, people.owner)
    headers = {**people.client, "Idempotency-Key": "for-the-child"}
    payments.break_after = httpx.ConnectError("lost")
    lost = await buy(client, headers, voucher_type["id"], client_id=CHILD)
    assert lost.status_code == 503
    payments.break_after = None
    answer = await buy(client, headers, voucher_type["id"], client_id=CHILD)
    assert answer.status_code == 201, answer.text
    assert {order["client_id"] for order in payments.orders} == {CLIENT}
    assert len(payments.transactions) == 1


@pytest.mark.parametrize("client_id", [CHILD, CLIENT, OTHER_CLIENT, 987654])
@pytest.mark.parametrize("known", [False, True], ids=["no_copy", "copy"])
async def test_nobody_else_buys_for_them(
    client: httpx.AsyncClient, people: People, client_id: int, known: bool
) -> None:
    voucher_type = await new_type(client, people.owner)
    if known:
        await _voucher(client, people)
    answer = await buy(client, people.second_client, voucher_type["id"], client_id=client_id)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_staff_issue_to_them_and_the_guardian_pays(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher_type = await new_type(client, people.owner)
    body = {
        "client_id": CHILD,
        "voucher_type_id": voucher_type["id"],
        "payment_method": "cash",
    }
    path = f"/api/organizations/{ORGANIZATION}/vouchers"
    issued = await client.post(path, json=body, headers=people.owner)
    assert (issued.status_code, issued.json()["client_id"]) == (201, CHILD)
    assert payments.orders[0]["client_id"] == CLIENT
    cancelled = await client.post(
        f"/api/vouchers/{issued.json()['id']}/cancel", headers=people.client
    )
    assert cancelled.json()["status"] == "cancelled", "until it is paid, the guardian cancels"


async def test_a_guardian_without_a_copy_is_fetched(
    client: httpx.AsyncClient, people: People, payments: Payments, database: Database
) -> None:
    await _voucher(client, people)
    voucher_type = await new_type(client, people.owner)
    async with database.admin() as admin:
        await admin.execute("DELETE FROM client_copies WHERE id = $1", CLIENT)
    answer = await buy(client, people.client, voucher_type["id"], client_id=CHILD)
    assert answer.status_code == 201, answer.text
    assert payments.orders[-1]["buyer"]["email"] == "client21@example.com"


async def test_only_the_guardian_and_staff_see_the_voucher(
    client: httpx.AsyncClient, people: People
) -> None:
    path = f"/api/vouchers/{(await _voucher(client, people))['id']}"

    async def statuses(headers: Headers) -> list[int]:
        paths = (path, f"{path}/redemptions", f"{path}/adjustments", f"{path}/transfers")
        return [(await client.get(each, headers=headers)).status_code for each in paths]

    assert await statuses(people.client) == [200] * 4
    assert await statuses(people.owner) == [200] * 4
    assert await statuses(people.second_client) == [404] * 4
    assert await statuses(people.other_client) == [404] * 4
    quote = await client.post(f"{path}/refund-quote", headers=people.client)
    assert quote.status_code == 201


async def test_reservations_are_for_the_dependant(practice: Practice) -> None:
    client, people = practice.client, practice.people
    await practice.add_therapist()
    await practice.add_therapist(SECOND_THERAPIST)
    own = await practice.voucher()
    child = await _voucher(client, people, booking_rules={}, frequency="daily")
    mine, theirs = [
        await practice.booked(voucher["id"], starts_at=at(3), therapist_id=therapist)
        for voucher, therapist in ((own, THERAPIST), (child, SECOND_THERAPIST))
    ]
    assert (mine["client_id"], theirs["client_id"]) == (CLIENT, CHILD), "both at the same time"
    assert theirs["status"] == "booked"
    listed = await client.get("/api/reservations/my", headers=people.client)
    assert {row["id"] for row in listed.json()} == {mine["id"], theirs["id"]}
    path = f"/api/reservations/{theirs['id']}"
    assert (await client.get(path, headers=people.second_client)).status_code == 404
    assert (await client.get(path, headers=people.client)).status_code == 200
    cancelled = await client.post(f"{path}/cancel", headers=people.client)
    assert cancelled.json()["status"] == "cancelled"
    await practice.require_sums()


async def test_sessions_are_transferred_to_a_dependant(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher_type = await new_type(client, people.owner)
    bought = await buy(client, people.second_client, voucher_type["id"])
    body = {"client_id": CHILD, "sessions": 3, "reason": "A cousin"}
    path = f"/api/vouchers/{bought.json()['id']}/transfers"
    answer = await client.post(path, json=body, headers=people.owner)
    assert answer.status_code == 201, answer.text
    received = answer.json()["other_voucher_id"]
    shown = await client.get(f"/api/vouchers/{received}", headers=people.client)
    assert (shown.json()["client_id"], shown.json()["total_sessions"]) == (CHILD, 3)
    assert (await redeem(client, people.therapist, received)).status_code == 201


async def test_copies_follow_the_events_of_identity(
    client: httpx.AsyncClient, people: People, transactions: Transactions, database: Database
) -> None:
    born: dict[str, Any] = {
        "name": "Zofia",
        "guardian_id": SECOND_CLIENT,
        "organization_id": ORGANIZATION,
        "is_active": True,
        "deleted_at": None,
    }
    await deliver(transactions, event("identity.dependant.created.v1", 71, **born))
    [copy] = await database.rows("SELECT * FROM client_copies WHERE id = 71")
    assert (copy["name"], copy["role"], copy["email"]) == ("Zofia", "client", None)
    assert (copy["guardian_id"], copy["organization_id"]) == (SECOND_CLIENT, ORGANIZATION)
    await deliver(transactions, event("identity.dependant.updated.v1", 71, 2, name="Zosia"))
    [copy] = await database.rows("SELECT * FROM client_copies WHERE id = 71")
    assert (copy["name"], copy["guardian_id"], copy["version"]) == ("Zosia", SECOND_CLIENT, 2)
    gone: dict[str, Any] = {"name": "Deleted client 71", "is_active": False}
    await deliver(transactions, event("identity.dependant.deleted.v1", 71, 3, **gone))
    [copy] = await database.rows("SELECT * FROM client_copies WHERE id = 71")
    assert (copy["name"], copy["is_active"]) == (None, False)
    voucher_type = await new_type(client, people.owner)
    answer = await buy(client, people.second_client, voucher_type["id"], client_id=71)
    assert not answer.is_success, "who was deleted buys nothing"


async def test_a_dependant_of_another_organization_is_unknown(
    client: httpx.AsyncClient, people: People, identity: Identity
) -> None:
    identity.users[CHILD]["organization_id"] = None
    voucher_type = await new_type(client, people.owner)
    body = {
        "client_id": CHILD,
        "voucher_type_id": voucher_type["id"],
        "payment_method": "cash",
    }
    path = f"/api/organizations/{ORGANIZATION}/vouchers"
    answer = await client.post(path, json=body, headers=people.owner)
    assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")
