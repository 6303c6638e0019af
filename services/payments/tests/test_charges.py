"""A charge: once per voucher, with any card and any fault of the network."""

import asyncio
from typing import Any

import httpx
import pytest

from services.payments.service.reconciliation import Reconciler
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import CLIENT, CardIssuer, order
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


async def charge(
    client: httpx.AsyncClient, vouchers: Headers, body: dict[str, Any]
) -> dict[str, Any]:
    answer = await client.post("/internal/charges", json=body, headers=vouchers)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def types(database: Database) -> list[str]:
    return [event["type"] for event in await database.events()]


async def test_a_card_pays(
    client: httpx.AsyncClient, vouchers: Headers, database: Database, issuer: CardIssuer
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    assert (paid["status"], paid["failure"], paid["next_action"]) == ("succeeded", None, None)
    assert paid["invoice_number"].startswith("PRAXIS-20")
    assert paid["invoice_number"].endswith("-000001")
    assert paid["completed_at"] is not None
    assert await issuer.net(paid["transaction_id"]) == 39999
    assert await types(database) == [
        "payments.payment.created.v1",
        "payments.invoice.issued.v1",
        "payments.payment.succeeded.v1",
    ]
    values = (await database.events())[-1]["data"]["new_values"]
    assert values["voucher_id"] == body["voucher_id"]
    assert values["client_id"] == CLIENT
    assert (values["amount"], values["currency"]) == ("399.99", "USD")
    assert (values["status"], values["payment_method"]) == ("succeeded", "credit_card")
    assert values["invoice_number"] == paid["invoice_number"]
    assert values["completed_at"] is not None


async def test_a_repetition_charges_nothing_and_answers_the_same(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, network: UnreliableNetwork
) -> None:
    body = order()
    first = await charge(client, vouchers, body)
    asked = len(network.requests)
    assert await charge(client, vouchers, body) == first
    assert len(network.requests) == asked
    assert await issuer.captures(body["voucher_id"]) == 1


async def test_twenty_at_once_charge_once(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, database: Database
) -> None:
    body = order()
    answers = await asyncio.gather(*(charge(client, vouchers, body) for _ in range(20)))
    assert len({answer["transaction_id"] for answer in answers}) == 1
    assert await issuer.captures(body["voucher_id"]) == 1
    settled = await charge(client, vouchers, body)
    assert settled["status"] == "succeeded"
    assert len(await database.rows("SELECT * FROM invoices")) == 1


async def test_other_terms_for_the_same_voucher_are_refused(
    client: httpx.AsyncClient, vouchers: Headers
) -> None:
    body = order()
    await charge(client, vouchers, body)
    for changes in ({"amount": 1}, {"currency": "EUR"}, {"client_id": 71}, {"organization_id": 8}):
        answer = await client.post("/internal/charges", json=body | changes, headers=vouchers)
        assert (answer.status_code, answer.json()["code"]) == (409, "charge_differs")


async def test_a_declined_card_states_why(
    client: httpx.AsyncClient, vouchers: Headers, database: Database, issuer: CardIssuer
) -> None:
    declined = await charge(client, vouchers, order(payment_token="pm_card_chargeCustomerFail"))
    assert declined["status"] == "failed"
    assert declined["failure"] == {"code": "card_declined", "message": "Your card was declined."}
    assert declined["invoice_number"] is None
    values = (await database.events())[-1]["data"]["new_values"]
    assert (values["failure_code"], values["status"]) == ("card_declined", "failed")
    [row] = await database.rows("SELECT * FROM payment_transactions")
    intent = await issuer.intent(row["gateway_transaction_id"])
    assert intent["status"] == "canceled", "nobody may pay it later"


async def test_an_unknown_token_fails_without_an_intent(
    client: httpx.AsyncClient, vouchers: Headers, database: Database
) -> None:
    """No card was declined: there was none. It has a code of its own, without the token."""
    failed = await charge(client, vouchers, order(payment_token="pm_never_was"))
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "card_token_unknown")
    assert "never_was" not in str(await database.events())


async def test_what_costs_nothing_is_paid_at_once(
    client: httpx.AsyncClient, vouchers: Headers, network: UnreliableNetwork
) -> None:
    paid = await charge(client, vouchers, order(amount=0, payment_token=None))
    assert paid["status"] == "succeeded"
    assert paid["invoice_number"]
    assert network.requests == []


async def test_a_card_without_a_token_waits_for_the_payer(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    body = order(payment_token=None)
    waiting = await charge(client, vouchers, body)
    assert waiting["status"] == "pending"
    path = f"/api/payments/{waiting['transaction_id']}/confirm"
    payer, owner = tokens.bearer(CLIENT, "client", 7), tokens.bearer(1, "organization_owner", 7)
    other = tokens.bearer(CLIENT + 1, "client", 7)
    token = {"payment_token": "pm_card_visa"}
    assert (await client.post(path, json={}, headers=payer)).status_code == 422
    assert (await client.post(path, json=token, headers=owner)).status_code == 403
    assert (await client.post(path, json=token, headers=other)).status_code == 404
    paid = await client.post(path, json=token, headers=payer)
    assert (paid.status_code, paid.json()["status"]) == (200, "succeeded"), paid.text
    assert (await client.post(path, json=token, headers=payer)).status_code == 409


async def test_three_d_secure_waits_for_the_bank(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, tokens: Tokens
) -> None:
    token = await issuer.card("4000002500003155")
    body = order(payment_token=token)
    waiting = await charge(client, vouchers, body)
    assert waiting["status"] == "requires_action"
    action = waiting["next_action"]
    assert action["type"] == "use_stripe_sdk"
    assert action["client_secret"].startswith("pi_")
    assert await charge(client, vouchers, body) == waiting
    payer = tokens.bearer(CLIENT, "client", 7)
    path = f"/api/payments/{waiting['transaction_id']}"
    early = await client.post(f"{path}/confirm", json={}, headers=payer)
    assert early.json()["status"] == "requires_action"
    await issuer.authenticate(action, success=True)
    returned = await client.post(f"{path}/confirm", json={}, headers=payer)
    assert returned.json()["status"] == "succeeded"
    assert returned.json()["next_action"] is None


async def test_another_card_is_refused_while_the_bank_is_asked_about_the_first(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, tokens: Tokens
) -> None:
    body = order(payment_token=await issuer.card("4000002500003155"))
    waiting = await charge(client, vouchers, body)
    path = f"/api/payments/{waiting['transaction_id']}/confirm"
    payer = tokens.bearer(CLIENT, "client", 7)
    other = await client.post(path, json={"payment_token": "pm_card_visa"}, headers=payer)
    assert (other.status_code, other.json()["code"]) == (409, "first_card_under_way")
    assert "without a token" in other.json()["detail"]
    assert await issuer.captures(body["voucher_id"]) == 0
    await issuer.authenticate(waiting["next_action"], success=True)
    returned = await client.post(path, json={}, headers=payer)
    assert returned.json()["status"] == "succeeded"


async def test_a_failed_confirmation_with_the_bank_fails_the_payment(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, tokens: Tokens
) -> None:
    token = await issuer.card("4000002500003155")
    waiting = await charge(client, vouchers, order(payment_token=token))
    await issuer.authenticate(waiting["next_action"], success=False)
    path = f"/api/payments/{waiting['transaction_id']}/confirm"
    returned = await client.post(path, json={}, headers=tokens.bearer(CLIENT, "client", 7))
    assert returned.json()["status"] == "failed"
    assert "authentication" in returned.json()["failure"]["code"]


async def test_a_gateway_that_is_down_is_503_and_the_same_call_goes_on(
    client: httpx.AsyncClient, vouchers: Headers, network: UnreliableNetwork, issuer: CardIssuer
) -> None:
    body = order()
    network.lose_request = to_path("/payment_intents")
    refused = await client.post("/internal/charges", json=body, headers=vouchers)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    network.heal()
    assert (await charge(client, vouchers, body))["status"] == "succeeded"
    assert await issuer.captures(body["voucher_id"]) == 1


@pytest.mark.parametrize("step", ["/payment_intents", "/confirm"])
async def test_a_lost_answer_is_never_a_second_charge(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    step: str,
) -> None:
    body = order()
    network.lose_answer = to_path(step)
    await client.post("/internal/charges", json=body, headers=vouchers)
    network.heal()
    assert (await charge(client, vouchers, body))["status"] == "succeeded"
    assert await issuer.captures(body["voucher_id"]) == 1


async def test_the_reconciler_finishes_once_what_lost_its_answer(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    reconciler: Reconciler,
    database: Database,
) -> None:
    body = order()
    network.lose_answer = to_path("/confirm")
    unknown = await charge(client, vouchers, body)
    assert unknown["status"] == "processing"
    network.heal()
    await asyncio.gather(*(reconciler.settle_unfinished() for _ in range(3)))
    await reconciler.settle_unfinished()
    assert (await types(database)).count("payments.payment.succeeded.v1") == 1
    assert len(await database.rows("SELECT * FROM invoices")) == 1
    assert await issuer.captures(body["voucher_id"]) == 1


async def test_only_services_charge(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    for headers in ({}, tokens.bearer(1, "admin"), tokens.service_bearer("vouchers", "identity")):
        answer = await client.post("/internal/charges", json=order(), headers=headers)
        assert answer.status_code == 401
