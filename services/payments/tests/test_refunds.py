"""Refunds: never more than was paid, each once, whatever message is lost."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx
import pytest

from services.payments.service.reconciliation import Reconciler
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import CLIENT, ORGANIZATION, CardIssuer, order
from services.payments.tests.test_charges import charge, types
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


def refunds_of(payment: dict[str, Any]) -> str:
    return f"/api/organizations/{ORGANIZATION}/payments/{payment['transaction_id']}/refunds"


async def test_a_part_and_then_the_rest(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    database: Database,
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    part = {"amount": 99.99, "reason": "two sessions less"}
    first = await client.post(refunds_of(paid), json=part, headers=owner)
    assert (first.status_code, first.json()["status"]) == (201, "succeeded"), first.text
    assert b'"amount":99.99' in first.content
    second = await client.post(refunds_of(paid), headers=owner)
    assert second.json()["amount"] == 300.00
    assert await issuer.net(paid["transaction_id"]) == 0
    third = await client.post(refunds_of(paid), headers=owner)
    assert (third.status_code, third.json()["code"]) == (409, "refund_exceeds_payment")
    shown = await client.get(f"/api/payments/{paid['transaction_id']}", headers=owner)
    assert (shown.json()["status"], shown.json()["refunded_amount"]) == ("refunded", 399.99)
    notes = await database.rows("SELECT * FROM invoices WHERE kind = 'credit_note' ORDER BY id")
    assert [note["number"][-14:] for note in notes] == [
        f"CN-{notes[0]['year']}-00000{number}" for number in (1, 2)
    ]
    assert {note["corrects_number"] for note in notes} == {paid["invoice_number"]}
    values = [
        event["data"]["new_values"]
        for event in await database.events()
        if event["type"] == "payments.refund.succeeded.v1"
    ]
    assert [value["refunded_amount"] for value in values] == ["99.99", "399.99"]
    assert {value["voucher_id"] for value in values} == {body["voucher_id"]}


async def test_yen_have_no_fractions_to_give_back(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, database: Database
) -> None:
    paid = await charge(client, vouchers, order(currency="JPY", amount=1000))
    refused = await client.post(refunds_of(paid), json={"amount": 99.5}, headers=owner)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "amount")
    assert await database.rows("SELECT * FROM refunds") == []
    given = await client.post(refunds_of(paid), json={"amount": 100}, headers=owner)
    assert (given.status_code, given.json()["status"]) == (201, "succeeded"), given.text


async def test_twenty_at_once_never_exceed_what_was_paid(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    database: Database,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    answers = await asyncio.gather(
        *(client.post(refunds_of(paid), json={"amount": 30}, headers=owner) for _ in range(20))
    )
    assert sorted({answer.status_code for answer in answers}) == [201, 409]
    assert sum(answer.status_code == 201 for answer in answers) == 3
    assert await issuer.net(paid["transaction_id"]) == 1000
    [row] = await database.rows("SELECT refunded_amount FROM payment_transactions")
    assert row["refunded_amount"] == Decimal("90.00")


async def test_the_same_key_refunds_once(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, issuer: CardIssuer
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    headers = {**owner, "Idempotency-Key": f"refund-{paid['transaction_id']}"}
    first = await client.post(refunds_of(paid), json={"amount": 30}, headers=headers)
    again = await client.post(refunds_of(paid), json={"amount": 30}, headers=headers)
    assert first.json() == again.json()
    assert await issuer.net(paid["transaction_id"]) == 7000


@pytest.mark.parametrize("lost", ["lose_request", "lose_answer"])
async def test_a_lost_call_is_finished_once_by_the_reconciler(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    database: Database,
    lost: str,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    setattr(network, lost, to_path("/refunds"))
    unknown = await client.post(refunds_of(paid), json={"amount": 30}, headers=owner)
    assert (unknown.status_code, unknown.json()["status"]) == (201, "pending")
    too_much = await client.post(refunds_of(paid), json={"amount": 71}, headers=owner)
    assert too_much.status_code == 409, "what is promised is no longer there"
    network.heal()
    await asyncio.gather(*(reconciler.settle_refunds() for _ in range(3)))
    await reconciler.settle_refunds()
    assert await issuer.net(paid["transaction_id"]) == 7000
    assert (await types(database)).count("payments.refund.succeeded.v1") == 1


async def test_cash_is_given_back_by_staff(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, network: UnreliableNetwork
) -> None:
    body = order(payment_method="cash", payment_token=None)
    waiting = await charge(client, vouchers, body)
    path = f"/api/organizations/{ORGANIZATION}/payments/{waiting['transaction_id']}"
    early = await client.post(f"{path}/refunds", headers=owner)
    assert (early.status_code, early.json()["code"]) == (409, "payment_not_paid")
    paid = await client.post(f"{path}/mark-paid", json={"note": "in coins"}, headers=owner)
    assert (paid.status_code, paid.json()["status"]) == (200, "succeeded")
    assert paid.json()["invoice_number"]
    twice = await client.post(f"{path}/mark-paid", headers=owner)
    assert (twice.status_code, twice.json()["code"]) == (409, "payment_not_pending")
    back = await client.post(f"{path}/refunds", json={"amount": 100}, headers=owner)
    assert back.json()["status"] == "succeeded"
    listed = await client.get(f"{path}/refunds", headers=owner)
    assert [refund["amount"] for refund in listed.json()] == [100.0]
    assert network.requests == []


async def test_what_staff_noted_of_the_money_is_theirs_to_read(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, tokens: Tokens
) -> None:
    waiting = await charge(client, vouchers, order(payment_method="cash", payment_token=None))
    base = f"/api/organizations/{ORGANIZATION}/payments"
    path = f"{base}/{waiting['transaction_id']}/mark-paid"
    paid = await client.post(path, json={"note": "receipt 12"}, headers=owner)
    assert paid.json()["note"] == "receipt 12"
    [listed] = (await client.get(base, headers=owner)).json()
    assert listed["note"] == "receipt 12"
    own = f"/api/payments/{waiting['transaction_id']}"
    viewer = tokens.bearer(3, "staff", ORGANIZATION, ("view_payments",))
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    assert (await client.get(own, headers=viewer)).json()["note"] == "receipt 12"
    assert (await client.get(own, headers=payer)).json()["note"] is None
    [shown] = (await client.get("/api/payments/my", headers=payer)).json()
    assert shown["note"] is None


async def test_a_refund_of_what_the_gateway_does_not_know_fails(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, database: Database
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    async with database.admin() as admin:
        await admin.execute("UPDATE payment_transactions SET gateway_transaction_id = 'pi_lost'")
    failed = await client.post(refunds_of(paid), json={"amount": 30}, headers=owner)
    assert (failed.status_code, failed.json()["status"]) == (201, "failed"), failed.text
    assert "does not know" in failed.json()["failure_message"]
    assert (await types(database))[-1] == "payments.refund.failed.v1"
    [row] = await database.rows("SELECT refunded_amount FROM payment_transactions")
    assert row["refunded_amount"] == 0


async def test_a_card_payment_is_never_marked_as_paid(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers
) -> None:
    waiting = await charge(client, vouchers, order(payment_token=None))
    path = f"/api/organizations/{ORGANIZATION}/payments/{waiting['transaction_id']}/mark-paid"
    answer = await client.post(path, headers=owner)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_paid_by_hand")


@pytest.mark.parametrize("amount", [0, -1, 0.001, "1e400", "NaN", 10**13, None, "x"])
async def test_amounts_that_are_none(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, amount: object
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    answer = await client.post(refunds_of(paid), json={"amount": amount}, headers=owner)
    assert answer.status_code == (201 if amount is None else 422)


async def test_who_may_refund_mark_and_look(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    paid = await charge(client, vouchers, order())
    base = f"/api/organizations/{ORGANIZATION}/payments"
    own = f"/api/payments/{paid['transaction_id']}"
    staff = ("staff", ORGANIZATION)
    # caller → list of the organization, one payment, mark as paid (a card payment), refund
    matrix: list[tuple[Headers, tuple[int, int, int, int]]] = [
        ({}, (401, 401, 401, 401)),
        (tokens.bearer(1, "admin"), (200, 200, 409, 201)),
        (tokens.bearer(2, "organization_owner", ORGANIZATION), (200, 200, 409, 201)),
        (tokens.bearer(3, *staff, ("view_payments",)), (200, 200, 403, 403)),
        (tokens.bearer(4, *staff, ("manage_payments",)), (200, 200, 409, 201)),
        (tokens.bearer(5, *staff, ("all",)), (200, 200, 409, 201)),
        (tokens.bearer(6, *staff), (403, 404, 403, 403)),
        (tokens.bearer(7, "therapist", ORGANIZATION), (403, 404, 403, 403)),
        (tokens.bearer(CLIENT, "client", ORGANIZATION), (403, 200, 403, 403)),
        (tokens.bearer(CLIENT + 1, "client", ORGANIZATION), (403, 404, 403, 403)),
        (tokens.bearer(8, "organization_owner", ORGANIZATION + 1), (404, 404, 404, 404)),
        (tokens.bearer(9, "client"), (404, 404, 404, 404)),
    ]
    for headers, expected in matrix:
        answers = (
            await client.get(base, headers=headers),
            await client.get(own, headers=headers),
            await client.post(f"{base}/{paid['transaction_id']}/mark-paid", headers=headers),
            await client.post(refunds_of(paid), json={"amount": 1}, headers=headers),
        )
        assert tuple(answer.status_code for answer in answers) == expected, headers
        for answer in answers:
            if answer.status_code == 403:
                assert answer.json()["detail"].startswith("Not authorized")


async def test_anothers_payment_is_as_if_it_never_was(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    foreign = await charge(client, vouchers, order(organization_id=ORGANIZATION + 1))
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    base = f"/api/organizations/{ORGANIZATION}/payments"
    for payment_id in (foreign["transaction_id"], 2**62):
        for method, path in (
            ("GET", f"/api/payments/{payment_id}"),
            ("POST", f"{base}/{payment_id}/mark-paid"),
            ("POST", f"{base}/{payment_id}/refunds"),
            ("GET", f"{base}/{payment_id}/refunds"),
        ):
            answer = await client.request(method, path, headers=owner)
            assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found")
    assert (await client.get(f"/api/payments/{2**63}", headers=owner)).status_code == 422
