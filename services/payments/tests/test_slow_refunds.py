"""Refunds that take days at the bank, fail after they were made, or are with a former gateway."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.payments.app import create_app
from services.payments.gateways import GatewayNotOpen, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.protocol import Gateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.service import webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from services.payments.tests.network import SlowRefunds, UnreliableNetwork
from services.payments.tests.signals import ORGANIZATION, CardIssuer, deliver, event, order
from services.payments.tests.test_charges import charge, types
from services.payments.worker import reconciler_of
from shared.testing import Database, Tokens, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
def bank(network: UnreliableNetwork) -> SlowRefunds:
    return SlowRefunds(network)


@pytest.fixture
async def stripe(
    stripe_settings: StripeSettings, bank: SlowRefunds
) -> AsyncIterator[StripeGateway]:
    gateway = StripeGateway(stripe_settings, bank)
    yield gateway
    await gateway.aclose()


@pytest.fixture
def gateways(stripe: StripeGateway) -> Gateways:
    manual = ManualGateway()
    return Gateways(dict.fromkeys(Method, manual) | {Method.CREDIT_CARD: stripe})


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


async def refund(
    client: httpx.AsyncClient, payment: dict[str, Any], owner: Headers, amount: float = 30
) -> httpx.Response:
    path = f"/api/organizations/{ORGANIZATION}/payments/{payment['transaction_id']}/refunds"
    return await client.post(path, json={"amount": amount}, headers=owner)


async def intent_of(database: Database, payment: dict[str, Any]) -> str:
    statement = "SELECT gateway_transaction_id FROM payment_transactions WHERE id = $1"
    [row] = await database.rows(statement, payment["transaction_id"])
    intent_id: str = row["gateway_transaction_id"]
    return intent_id


async def statuses(database: Database) -> list[tuple[str, str]]:
    rows = await database.rows("SELECT source, status FROM refunds ORDER BY id")
    return [(row["source"], row["status"]) for row in rows]


async def test_a_refund_of_the_console_that_is_on_its_way_is_not_made_again(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    bank: SlowRefunds,
    reconciler: Reconciler,
    database: Database,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    await issuer.refund(await intent_of(database, paid), 3000)
    await reconciler.catch_up()
    assert await statuses(database) == [("gateway", "pending")]
    for _ in range(3):
        await reconciler.settle_refunds()
    assert await issuer.net(paid["transaction_id"]) == 7000
    bank.status = "succeeded"
    await reconciler.settle_refunds()
    assert await statuses(database) == [("gateway", "succeeded")]
    assert await issuer.net(paid["transaction_id"]) == 7000


async def test_what_the_bank_refuses_in_the_end_may_be_given_back_again(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    bank: SlowRefunds,
    reconciler: Reconciler,
    database: Database,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    assert (await refund(client, paid, owner, 100)).json()["status"] == "pending"
    assert (await refund(client, paid, owner, 1)).status_code == 409
    bank.status = "failed"
    await reconciler.settle_refunds()
    assert await statuses(database) == [("staff", "failed")]
    assert (await refund(client, paid, owner, 1)).status_code == 201


@pytest.mark.parametrize("kind", ["refund.failed", "refund.updated", "charge.refund.updated"])
async def test_a_returned_refund_is_published_once(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    bank: SlowRefunds,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    kind: str,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    bank.status = "succeeded"
    assert (await refund(client, paid, owner)).json()["failure_message"] is None
    [made] = await database.rows("SELECT gateway_refund_id FROM refunds")
    failed = {
        "id": made["gateway_refund_id"],
        "object": "refund",
        "amount": 3000,
        "currency": "usd",
        "payment_intent": await intent_of(database, paid),
        "status": "failed",
    }
    for _ in range(2):
        assert (await deliver(client, event(kind, failed))).status_code == 200
        await webhooks.process_due(transactions, gateways)
    path = f"/api/organizations/{ORGANIZATION}/payments/{paid['transaction_id']}/refunds"
    [shown] = (await client.get(path, headers=owner)).json()
    assert shown["status"] == "succeeded", "the books stay as they are"
    assert "Give it back in another way" in shown["failure_message"]
    assert (await types(database)).count("payments.refund.returned.v1") == 1
    outcomes = await database.rows("SELECT outcome FROM webhook_events ORDER BY id DESC LIMIT 2")
    assert [row["outcome"] for row in outcomes] == ["unchanged", "applied"]


async def test_a_refund_of_which_nothing_can_be_made_keeps_no_other_from_being_made(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    bank: SlowRefunds,
    reconciler: Reconciler,
    database: Database,
) -> None:
    broken, whole = [await charge(client, vouchers, order(amount=100)) for _ in range(2)]
    for payment in (broken, whole):
        assert (await refund(client, payment, owner)).json()["status"] == "pending"
    bank.garbled.add(await intent_of(database, broken))
    bank.status = "succeeded"
    await reconciler.settle_refunds()
    assert await statuses(database) == [("staff", "pending"), ("staff", "succeeded")]


async def test_a_refund_on_its_way_is_not_lost_with_its_payment(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    reconciler: Reconciler,
    database: Database,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    assert (await refund(client, paid, owner)).json()["status"] == "pending"
    async with database.admin() as admin:
        await admin.execute("UPDATE payment_transactions SET gateway_transaction_id = 'pi_lost'")
    await reconciler.settle_refunds()
    assert await statuses(database) == [("staff", "pending")], "the money may be on its way"


async def test_earlier_payments_stay_with_a_former_gateway(
    client: httpx.AsyncClient,
    settings: Settings,
    vouchers: Headers,
    owner: Headers,
    stripe: StripeGateway,
    bank: SlowRefunds,
    transactions: Transactions,
    database: Database,
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    bank.status = "succeeded"
    by_hand: dict[str, Gateway] = dict.fromkeys(Method, ManualGateway())
    forgotten, former = Gateways(by_hand), Gateways(by_hand, [stripe])
    async with client_of(create_app(settings, gateways=forgotten)) as without:
        assert (await refund(without, paid, owner)).json()["status"] == "pending"
    await deliver(client, event("refund.updated", {"id": "re_1", "currency": "usd", "amount": 1}))
    lost = reconciler_of(transactions, forgotten, settings)
    await lost.settle_refunds()
    await webhooks.process_due(transactions, forgotten)
    waiting = "SELECT id FROM webhook_events WHERE next_attempt_at IS NOT NULL"
    assert len(await database.rows(waiting)) == 1
    assert await statuses(database) == [("staff", "pending")]
    with pytest.raises(GatewayNotOpen, match="PAYMENTS_FORMER_GATEWAYS"):
        forgotten.named("stripe")
    await reconciler_of(transactions, former, settings).settle_refunds()
    await webhooks.process_due(transactions, former)
    assert await statuses(database) == [("staff", "succeeded")]
    assert await database.rows(waiting) == []


async def test_a_missing_gateway_is_reported(
    client: httpx.AsyncClient,
    settings: Settings,
    vouchers: Headers,
    owner: Headers,
    stripe: StripeGateway,
    transactions: Transactions,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paid = await charge(client, vouchers, order(amount=100))
    assert (await refund(client, paid, owner)).json()["status"] == "pending"
    by_hand: dict[str, Gateway] = dict.fromkeys(Method, ManualGateway())
    await reconciler_of(
        transactions, Gateways(by_hand, [stripe]), settings
    ).report_missing_gateways()
    assert "PAYMENTS_FORMER_GATEWAYS" not in capsys.readouterr().out
    await reconciler_of(transactions, Gateways(by_hand), settings).report_missing_gateways()
    assert "stripe is not open: name it in PAYMENTS_FORMER_GATEWAYS" in capsys.readouterr().out
