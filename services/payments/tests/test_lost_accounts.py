"""Accounts that are restricted or disconnected during a purchase: nothing is lost or paid twice."""

from typing import Any

import httpx
import pytest

from services.payments.gateways import AccountMode, Gateways
from services.payments.service import webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.network import UnreliableNetwork
from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    CardIssuer,
    deliver_connect,
    event,
    order,
)
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


async def shown_to(
    client: httpx.AsyncClient, payment: dict[str, Any], headers: Headers
) -> dict[str, Any]:
    answer = await client.get(f"/api/payments/{payment['transaction_id']}", headers=headers)
    shown: dict[str, Any] = answer.json()
    return shown


async def report_disconnection(
    client: httpx.AsyncClient, transactions: Transactions, gateways: Gateways, account: str
) -> None:
    body = event("account.application.deauthorized", {"id": "ca_1"}, account=account)
    assert (await deliver_connect(client, body)).status_code == 200
    await webhooks.process_due(transactions, gateways)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("change", ["restrict", "reject", "deauthorize"])
async def test_an_account_that_may_not_charge_any_more(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    account: str,
    change: str,
    first: bool,
) -> None:
    """Our copy of its state is old."""
    if change == "deauthorize":
        await issuer.deauthorize(account)
    else:
        await issuer.change_account(account, outcome=change)
    await database.rows(
        "UPDATE payment_accounts SET refresh_at = now() + interval '1 day' RETURNING id"
    )
    failed = await charge(client, vouchers, order(first=first))
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "cards_not_available")
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    assert "Choose another method" in (await shown_to(client, failed, payer))["failure"]["message"]
    assert "could not charge" in (await shown_to(client, failed, owner))["failure"]["message"]
    [row] = await database.rows("SELECT refresh_at <= now() AS is_due FROM payment_accounts")
    assert row["is_due"], "the account is read again soon"


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_currency_that_the_account_cannot_charge(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    account: str,
    first: bool,
) -> None:
    await issuer.change_account(account, **{"supported_currencies[]": "usd"})
    failed = await charge(client, vouchers, order(first=first, currency="PLN"))
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "currency_not_supported")
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    message = (await shown_to(client, failed, payer))["failure"]["message"]
    assert message == (
        "The organization cannot take card payments in PLN. Choose another method of payment."
    )
    [listed] = (
        await client.get(f"/api/organizations/{ORGANIZATION}/payments", headers=owner)
    ).json()
    assert "Enable it there" in listed["failure"]["message"]
    assert (await charge(client, vouchers, order(first=first)))["status"] == "succeeded"


async def test_a_disconnection_between_preparation_and_charge(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    account: str,
) -> None:
    async def disconnect_after_preparation(request: httpx.Request) -> None:
        if request.url.path == "/v1/payment_intents":
            await issuer.deauthorize(account)

    network.meanwhile = disconnect_after_preparation
    started = await charge(client, vouchers, order(first=True))
    assert started["status"] == "processing"
    network.heal()
    await reconciler.settle_unfinished()
    [row] = await database.rows("SELECT status FROM payment_transactions")
    assert row["status"] == "processing", "the key may be wrong: access may return"
    await report_disconnection(client, transactions, gateways, account)
    await database.rows(
        "UPDATE payment_transactions SET checked_at = now() - interval '1 hour' RETURNING id"
    )
    await reconciler.settle_unfinished()
    [row] = await database.rows(
        "SELECT status, captured_amount, quarantine_reason FROM payment_transactions"
    )
    assert (row["status"], row["captured_amount"]) == ("quarantined", 0)
    assert "disconnected" in row["quarantine_reason"]


async def test_a_refund_after_the_disconnection_fails_with_a_sentence(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    account: str,
) -> None:
    paid = await charge(client, vouchers, order())
    await issuer.deauthorize(account)
    await report_disconnection(client, transactions, gateways, account)
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    path = f"/api/organizations/{ORGANIZATION}/payments/{paid['transaction_id']}/refunds"
    refund = (await client.post(path, json={"amount": 100}, headers=owner)).json()
    assert refund["status"] == "failed"
    assert "not connected any more" in refund["failure_message"]
