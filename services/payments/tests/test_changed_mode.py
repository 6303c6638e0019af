"""An installation that begins to charge on organizations' accounts: earlier payments stay its own.

Payments that were made before connected accounts existed have no account (null), as those of the
mode `installation` have: they are looked up, refunded and disputed on the installation's own.
"""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.payments.app import create_app
from services.payments.gateways import AccountMode, Gateway, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.service import webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from services.payments.tests.connections import payment_of, refund_of
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    CardIssuer,
    deliver,
    deliver_connect,
    dispute_of,
    event,
    intent_event,
    order,
    succeeded,
)
from services.payments.tests.test_charges import charge
from services.payments.worker import reconciler_of
from shared.testing import Database, Tokens, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
async def changed_gateways(
    stripe_settings: StripeSettings, network: UnreliableNetwork
) -> AsyncIterator[Gateways]:
    """The gateways after the operator has changed the mode; those of before have the other one."""
    by_method: dict[str, Gateway] = dict.fromkeys(Method, ManualGateway())
    stripe = StripeGateway(stripe_settings, network)
    by_method[Method.CREDIT_CARD] = stripe
    yield Gateways(by_method, accounts=AccountMode.ORGANIZATION)
    await stripe.aclose()


@pytest.fixture
async def changed_client(
    settings: Settings, changed_gateways: Gateways
) -> AsyncIterator[httpx.AsyncClient]:
    """The API after the change."""
    async with client_of(create_app(settings, gateways=changed_gateways)) as client:
        yield client


@pytest.fixture
def changed_reconciler(
    transactions: Transactions, changed_gateways: Gateways, settings: Settings
) -> Reconciler:
    return reconciler_of(transactions, changed_gateways, settings)


async def test_an_earlier_payment_is_refunded_from_the_installations_account(
    client: httpx.AsyncClient,
    changed_client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    account: str,
) -> None:
    paid = await charge(client, vouchers, order())
    refund = await refund_of(paid["transaction_id"], changed_client, tokens)
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded")
    payment = await payment_of(database)
    intent_id = payment["gateway_transaction_id"]
    assert payment["gateway_account"] is None
    assert (await issuer.charge_of(intent_id))["amount_refunded"] == 10_000
    later = await charge(changed_client, vouchers, order())
    assert later["status"] == "succeeded"
    assert len(await issuer.of(account).intents()) == 1, "a new payment is the organization's"
    assert len(await issuer.intents()) == 1


async def test_an_earlier_refund_that_was_interrupted_is_continued_there(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    changed_reconciler: Reconciler,
    database: Database,
    account: str,
) -> None:
    paid = await charge(client, vouchers, order())
    network.lose_answer = to_path("/refunds")
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    path = f"/api/organizations/{ORGANIZATION}/payments/{paid['transaction_id']}/refunds"
    assert (await client.post(path, headers=owner)).json()["status"] == "pending"
    network.heal()
    await changed_reconciler.settle_refunds()
    payment = await payment_of(database)
    assert payment["status"] == "refunded"
    assert (await issuer.charge_of(payment["gateway_transaction_id"]))["amount_refunded"] == 39999


async def test_an_earlier_unfinished_payment_is_looked_up_there(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    changed_reconciler: Reconciler,
    database: Database,
    account: str,
) -> None:
    network.lose_answer = to_path("/confirm")
    body = order()
    assert (await charge(client, vouchers, body))["status"] == "processing"
    network.heal()
    await changed_reconciler.settle_unfinished()
    payment = await payment_of(database)
    assert (payment["status"], payment["gateway_account"]) == ("succeeded", None)
    assert await issuer.captures(body["voucher_id"]) == 1


async def test_an_earlier_payer_who_returns_from_the_bank_has_paid(
    client: httpx.AsyncClient,
    changed_client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    account: str,
) -> None:
    token = await issuer.card("4000002500003155")
    waiting = await charge(client, vouchers, order(payment_token=token))
    await issuer.authenticate(waiting["next_action"], success=True)
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    path = f"/api/payments/{waiting['transaction_id']}/confirm"
    confirmed = await changed_client.post(path, json={}, headers=payer)
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "succeeded")
    assert (await payment_of(database))["gateway_account"] is None


async def test_an_earlier_payments_webhooks_and_disputes_are_the_installations(
    client: httpx.AsyncClient,
    changed_client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    changed_gateways: Gateways,
    database: Database,
    account: str,
) -> None:
    token = await issuer.card("4000002500003155")
    await charge(client, vouchers, order(payment_token=token))
    intent_id = (await payment_of(database))["gateway_transaction_id"]
    intent = succeeded(await issuer.intent(intent_id))
    assert (await deliver(changed_client, intent_event(intent))).status_code == 200
    await webhooks.process_due(transactions, changed_gateways)
    assert (await payment_of(database))["status"] == "succeeded"
    foreign = event("charge.dispute.created", dispute_of(intent_id, "dp_foreign"), account=account)
    await deliver_connect(changed_client, foreign)
    await webhooks.process_due(transactions, changed_gateways)
    assert (await payment_of(database))["disputed_amount"] == 0, "another account's report"
    await deliver(changed_client, event("charge.dispute.created", dispute_of(intent_id)))
    await webhooks.process_due(transactions, changed_gateways)
    payment = await payment_of(database)
    assert payment["disputed_amount"] == payment["amount"]


async def test_a_lost_webhook_about_an_earlier_payment_is_read_from_the_installations_list(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    changed_reconciler: Reconciler,
    database: Database,
    account: str,
) -> None:
    await charge(client, vouchers, order())
    intent_id = (await payment_of(database))["gateway_transaction_id"]
    await issuer.refund(intent_id, 39999)
    await changed_reconciler.catch_up_accounts()
    assert (await payment_of(database))["status"] == "succeeded"
    await changed_reconciler.catch_up()
    assert (await payment_of(database))["status"] == "refunded"


async def test_an_earlier_payment_that_no_gateway_has_is_charged_on_the_organizations_account(
    client: httpx.AsyncClient,
    changed_client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    account: str,
) -> None:
    pending = await charge(client, vouchers, order(payment_token=None))
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    path = f"/api/payments/{pending['transaction_id']}/confirm"
    paid = await changed_client.post(path, json={"payment_token": "pm_card_visa"}, headers=payer)
    assert (paid.status_code, paid.json()["status"]) == (200, "succeeded")
    assert (await payment_of(database))["gateway_account"] == account
    assert await issuer.intents() == []


async def test_payments_of_an_account_stay_there_when_the_mode_is_changed_back(
    client: httpx.AsyncClient,
    changed_client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    account: str,
) -> None:
    paid = await charge(changed_client, vouchers, order())
    refund = await refund_of(paid["transaction_id"], client, tokens)
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded")
    intent_id = (await payment_of(database))["gateway_transaction_id"]
    assert (await issuer.of(account).charge_of(intent_id))["amount_refunded"] == 10_000
    assert await issuer.intents() == []
