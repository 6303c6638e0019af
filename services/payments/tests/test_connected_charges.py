"""Payments on the connected accounts of organizations."""

import httpx
import pytest

from services.payments.gateways import AccountMode, Gateways
from services.payments.service import webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.connections import connect, disconnect, payment_of, refund_of
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import (
    ORGANIZATION,
    OTHER_ORGANIZATION,
    CardIssuer,
    deliver,
    deliver_connect,
    dispute_of,
    event,
    intent_event,
    order,
    signature,
    succeeded,
)
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_card_is_charged_on_the_organizations_account(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    database: Database,
    account: str,
    first: bool,
) -> None:
    body = order(first=first)
    paid = await charge(client, vouchers, body)
    payment = await payment_of(database)
    assert (paid["status"], payment["gateway_account"]) == ("succeeded", account)
    assert await issuer.of(account).captures(body["voucher_id"]) == 1
    assert await issuer.intents() == [], "nothing is on the installation's own account"


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("connected", [True, False], ids=["restricted", "not-connected"])
async def test_without_an_account_that_may_charge_no_other_account_is_charged(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    database: Database,
    connected: bool,
    first: bool,
) -> None:
    if connected:
        await connect(database, await issuer.account("restrict"), charges_enabled=False)
    await connect(database, await issuer.account(), OTHER_ORGANIZATION)
    failed = await charge(client, vouchers, order(first=first))
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "cards_not_available")
    [row] = await database.rows("SELECT gateway_account, captured_amount FROM payment_transactions")
    assert (row["gateway_account"], row["captured_amount"]) == (None, 0)
    assert await issuer.intents() == []


async def test_a_pending_payment_waits_until_the_account_may_charge(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
) -> None:
    pending = await charge(client, vouchers, order(payment_token=None))
    payer = tokens.bearer(70, "client", ORGANIZATION)
    path = f"/api/payments/{pending['transaction_id']}/confirm"
    refused = await client.post(path, json={"payment_token": "pm_card_visa"}, headers=payer)
    assert (refused.status_code, refused.json()["code"]) == (409, "cards_not_available")
    assert (await payment_of(database))["status"] == "pending"
    account = await issuer.account()
    await connect(database, account)
    paid = await client.post(path, json={"payment_token": "pm_card_visa"}, headers=payer)
    assert (paid.status_code, paid.json()["status"]) == (200, "succeeded")
    assert (await payment_of(database))["gateway_account"] == account


async def test_a_refund_comes_from_the_account_that_was_paid(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    account: str,
) -> None:
    paid = await charge(client, vouchers, order())
    await disconnect(database, account)
    await connect(database, await issuer.account())
    refund = await refund_of(paid["transaction_id"], client, tokens)
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded")
    intent_id = (await payment_of(database))["gateway_transaction_id"]
    assert (await issuer.of(account).charge_of(intent_id))["amount_refunded"] == 10_000


async def test_a_payment_names_an_account_only_with_its_intent(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    database: Database,
    account: str,
) -> None:
    network.lose_request = to_path("/payment_intents")
    body = order(first=True)
    answer = await client.post("/internal/charges", json=body, headers=vouchers)
    assert answer.status_code == 503
    payment = await payment_of(database)
    assert (payment["gateway_transaction_id"], payment["gateway_account"]) == (None, None)
    network.heal()
    assert (await charge(client, vouchers, body))["status"] == "succeeded"
    assert (await payment_of(database))["gateway_account"] == account


async def test_an_unfinished_payment_is_asked_about_on_its_account(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    database: Database,
    account: str,
) -> None:
    network.lose_answer = to_path("/confirm")
    started = await charge(client, vouchers, order())
    assert started["status"] == "processing"
    network.heal()
    await reconciler.settle_unfinished()
    payment = await payment_of(database)
    assert (payment["status"], payment["gateway_account"]) == ("succeeded", account)


async def test_a_webhook_of_a_connected_account_settles_its_payment(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    account: str,
) -> None:
    token = await issuer.of(account).card("4000002500003155")
    waiting = await charge(client, vouchers, order(payment_token=token))
    intent_id = waiting["next_action"]["client_secret"].partition("_secret_")[0]
    intent = succeeded(await issuer.of(account).intent(intent_id))
    body = intent_event(intent, account=account)
    wrong = signature(body, secret="whsec_other")
    assert (await deliver(client, body, wrong, address="stripe/connect")).status_code == 400
    assert (await deliver(client, body, address="stripe/connect")).status_code == 400
    assert (await deliver_connect(client, body)).json() == {"status": "stored"}
    await webhooks.process_due(transactions, gateways)
    assert (await payment_of(database))["status"] == "succeeded"
    repeated = intent_event(intent, account=account)
    assert (await deliver_connect(client, repeated)).status_code == 200
    rows = await database.rows("SELECT account, outcome FROM webhook_events ORDER BY id")
    assert [(row["account"], row["outcome"]) for row in rows] == [
        (account, "applied"),
        (account, "unchanged"),
    ]


async def test_another_account_pays_for_no_voucher_of_ours(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    account: str,
) -> None:
    """The owner of another account writes the ids of this organization into an own intent."""
    foreign = await issuer.account()
    await connect(database, foreign, OTHER_ORGANIZATION)
    pending = await charge(client, vouchers, order(payment_token=None))
    payment = await payment_of(database)
    for metadata in (
        {"transaction_id": str(pending["transaction_id"])},
        {"voucher_id": str(payment["voucher_id"])},
    ):
        intent = {
            "id": f"pi_foreign_{len(metadata)}",
            "object": "payment_intent",
            "amount": 39999,
            "amount_received": 39999,
            "currency": "usd",
            "status": "succeeded",
            "livemode": False,
            "metadata": metadata,
        }
        stored = await deliver_connect(client, intent_event(intent, account=foreign))
        assert stored.status_code == 200
    await webhooks.process_due(transactions, gateways)
    assert (await payment_of(database))["status"] == "pending"
    rows = await database.rows("SELECT outcome FROM webhook_events")
    assert {row["outcome"] for row in rows} == {"unchanged"}


async def test_reports_that_name_another_account_change_nothing(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    account: str,
) -> None:
    await charge(client, vouchers, order())
    payment = await payment_of(database)
    foreign = await issuer.account()
    intent_id = payment["gateway_transaction_id"]
    refund = {
        "id": "re_foreign",
        "object": "refund",
        "amount": 39999,
        "currency": "usd",
        "status": "succeeded",
        "payment_intent": intent_id,
        "metadata": {},
    }
    for body in (
        event("charge.dispute.created", dispute_of(intent_id), account=foreign),
        event("refund.updated", refund, account=foreign),
    ):
        assert (await deliver_connect(client, body)).status_code == 200
    await webhooks.process_due(transactions, gateways)
    after = await payment_of(database)
    assert (after["status"], after["disputed_amount"], after["refunded_amount"]) == (
        "succeeded",
        0,
        0,
    )


async def test_an_unknown_account_is_stored_and_answered(
    client: httpx.AsyncClient, issuer: CardIssuer, database: Database
) -> None:
    body = event("customer.created", {"id": "cus_1"}, account="acct_unknown")
    assert (await deliver_connect(client, body)).json() == {"status": "stored"}
    [row] = await database.rows("SELECT account FROM webhook_events")
    assert row["account"] == "acct_unknown"
