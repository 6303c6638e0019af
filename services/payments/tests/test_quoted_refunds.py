"""Refunds that vouchers has quoted: by call, by event, or both; each once."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx
import pytest

from services.payments import queries
from services.payments.gateways import Gateways
from services.payments.handlers import VOUCHERS, queues_of
from services.payments.models import RefundSource
from services.payments.service import refunds
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import ORGANIZATION, CardIssuer, order
from services.payments.tests.test_charges import charge
from services.payments.tests.test_handlers import voucher_event
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


def _order(paid: dict[str, Any], **changes: Any) -> dict[str, Any]:
    order = {"transaction_id": paid["transaction_id"], "quote_id": 1, "amount": 280.0}
    return {**order, "currency": "USD", "reason": "moves away", **changes}


async def _refund(
    client: httpx.AsyncClient, vouchers: Headers, order: dict[str, Any]
) -> dict[str, Any]:
    answer = await client.post("/internal/refunds", json=order, headers=vouchers)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_reading_the_balance_waits_for_no_lock(
    client: httpx.AsyncClient, vouchers: Headers, transactions: Transactions
) -> None:
    """A GET takes no lock: it answers beside one, and as it is before the other's commit."""
    body = order()
    paid = await charge(client, vouchers, body)
    path = f"/internal/vouchers/{body['voucher_id']}/payment"
    async with transactions.system() as session:
        payment = await queries.lock_payment(session, paid["transaction_id"])
        await refunds.create_refund(session, payment, Decimal(100), source=RefundSource.STAFF)
        async with asyncio.timeout(5):
            before = (await client.get(path, headers=vouchers)).json()
    assert (before["refundable_amount"], before["pending_amount"]) == (399.99, 0)
    after = (await client.get(path, headers=vouchers)).json()
    assert (after["refundable_amount"], after["pending_amount"]) == (299.99, 100)


async def _told(database: Database, what: str) -> list[dict[str, Any]]:
    kind = f"payments.refund.{what}.v1"
    return [e["data"]["new_values"] for e in await database.events() if e["type"] == kind]


async def test_the_balance_of_a_voucher(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    path = f"/internal/vouchers/{body['voucher_id']}/payment"
    state = (await client.get(path, headers=vouchers)).json()
    assert state == {
        "transaction_id": paid["transaction_id"],
        "currency": "USD",
        "captured_amount": 399.99,
        "refunded_amount": 0,
        "refundable_amount": 399.99,
        "pending_amount": 0,
        "unit": 0.01,
    }
    await _refund(client, vouchers, _order(paid))
    state = (await client.get(path, headers=vouchers)).json()
    assert (state["refunded_amount"], state["refundable_amount"]) == (280.0, 119.99)
    unknown = await client.get("/internal/vouchers/987654321/payment", headers=vouchers)
    assert unknown.status_code == 404
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    for headers in ({}, owner):
        assert (await client.get(path, headers=headers)).status_code in (401, 403)
        asked = await client.post("/internal/refunds", json=_order(paid), headers=headers)
        assert asked.status_code in (401, 403)


@pytest.mark.parametrize("method", ["credit_card", "cash"])
async def test_yen_are_given_back_whole(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens, method: str
) -> None:
    body = order(currency="JPY", amount=1000, payment_method=method)
    paid = await charge(client, vouchers, body)
    if method == "cash":
        owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
        path = f"/api/organizations/{ORGANIZATION}/payments/{paid['transaction_id']}/mark-paid"
        assert (await client.post(path, headers=owner)).status_code == 200
    path = f"/internal/vouchers/{body['voucher_id']}/payment"
    assert (await client.get(path, headers=vouchers)).json()["unit"] == 1
    fraction = _order(paid, amount=333.3, currency="JPY")
    assert (await _refund(client, vouchers, fraction))["status"] == "failed"
    whole = _order(paid, quote_id=2, amount=333, currency="JPY")
    assert (await _refund(client, vouchers, whole))["status"] == "succeeded"


async def test_once_per_quote_however_often_it_is_asked_for(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, database: Database
) -> None:
    paid = await charge(client, vouchers, order())
    answers = await asyncio.gather(*(_refund(client, vouchers, _order(paid)) for _ in range(10)))
    assert len({answer["id"] for answer in answers}) == 1
    made = await _refund(client, vouchers, _order(paid))
    assert (made["status"], made["refunded_amount"]) == ("succeeded", 280.0)
    assert await issuer.net(paid["transaction_id"]) == 11999
    [told] = await _told(database, "succeeded")
    assert (told["quote_id"], told["amount"]) == (1, "280.00")


async def test_a_refund_of_missing_money_fails_and_is_published(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, database: Database
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    await _refund(client, vouchers, _order(paid))
    refused = await _refund(client, vouchers, _order(paid, quote_id=2, amount=120))
    assert (refused["status"], refused["refunded_amount"]) == ("failed", 280.0)
    assert refused["failure_message"]
    [told] = await _told(database, "failed")
    assert (told["quote_id"], told["voucher_id"]) == (2, body["voucher_id"])
    again = await _refund(client, vouchers, _order(paid, quote_id=2, amount=120))
    assert again == refused
    assert await issuer.net(paid["transaction_id"]) == 11999


async def test_the_event_makes_the_refund_that_the_call_did_not(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    reconciler: Reconciler,
    database: Database,
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    values = _order(paid, amount="280.00") | {"refund_quote_id": 1, "sessions": 7}
    event = voucher_event("refund_requested", body["voucher_id"], {}, values)
    for _ in range(2):
        async with transactions.system(causation=event) as session:
            await queues_of(gateways)[VOUCHERS][event.type](session, event)
    assert await issuer.net(paid["transaction_id"]) == 39999
    await reconciler.settle_refunds()
    assert await issuer.net(paid["transaction_id"]) == 11999
    made = await _refund(client, vouchers, _order(paid))
    assert made["status"] == "succeeded"
    assert len(await _told(database, "succeeded")) == 1


async def test_a_lost_answer_is_found_by_the_reconciler(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    database: Database,
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    network.lose_answer = to_path("/refunds")
    assert (await _refund(client, vouchers, _order(paid)))["status"] == "pending"
    path = f"/internal/vouchers/{body['voucher_id']}/payment"
    state = (await client.get(path, headers=vouchers)).json()
    assert (state["refundable_amount"], state["pending_amount"]) == (119.99, 280.0)
    network.heal()
    await reconciler.settle_refunds()
    [told] = await _told(database, "succeeded")
    assert (told["quote_id"], await issuer.net(paid["transaction_id"])) == (1, 11999)
    assert (await client.get(path, headers=vouchers)).json()["pending_amount"] == 0
