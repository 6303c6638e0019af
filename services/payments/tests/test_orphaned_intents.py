"""Intents that were prepared for a voucher and never stored: what happens if one is paid."""

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.schemas import ChargeCreate
from services.payments.service import charges, payments, webhooks
from services.payments.telemetry import CONTRADICTIONS
from services.payments.tests.connections import payment_of
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import CardIssuer, deliver, intent_event, succeeded
from services.payments.tests.test_charges import charge
from services.payments.tests.test_first_charges import first, terms_of
from shared.errors import ServiceUnavailable
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


def success_of_orphan(voucher_id: int) -> bytes:
    """Return the webhook of a paid intent that was prepared and never stored."""
    intent = {
        "id": f"pi_orphan_{voucher_id}",
        "object": "payment_intent",
        "amount": 39999,
        "amount_received": 39999,
        "currency": "usd",
        "status": "succeeded",
        "livemode": False,
        "metadata": {"voucher_id": str(voucher_id)},
    }
    return intent_event(intent)


async def test_money_for_an_intent_without_a_row_is_matched_by_its_voucher(
    client: httpx.AsyncClient,
    gateways: Gateways,
    transactions: Transactions,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
) -> None:
    """The payment is stored by the event of the purchase, and has no id of the gateway yet."""
    body = first()
    network.lose_answer = to_path("/payment_intents")
    with pytest.raises(ServiceUnavailable):
        terms = ChargeCreate.model_validate(body)
        await charges.charge(transactions.system, gateways, terms)
    [intent] = await issuer.intents_of(body["voucher_id"])
    assert "transaction_id" not in intent["metadata"]
    await deliver(client, intent_event(succeeded(intent)))
    await webhooks.process_due(transactions, gateways)
    row = await payment_of(database)
    assert (row["status"], row["gateway_transaction_id"]) == ("succeeded", intent["id"])


@pytest.mark.parametrize("is_prepared", [True, False])
async def test_money_for_an_orphan_of_an_unpaid_payment_is_quarantined(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    database: Database,
    is_prepared: bool,
) -> None:
    """No process confirms it; a person at the console of the gateway could."""
    body = first(payment_token="pm_card_chargeCustomerFail")
    if is_prepared:
        assert (await charge(client, vouchers, body))["status"] == "failed"
    else:
        async with transactions.system() as session:
            await payments.open_missing(session, gateways, terms_of(body))
            await payments.void_payment_of_voucher(session, body["voucher_id"])
    await deliver(client, success_of_orphan(body["voucher_id"]))
    await webhooks.process_due(transactions, gateways)
    row = await payment_of(database)
    assert (row["status"], float(row["captured_amount"])) == ("quarantined", 399.99)
    assert row["gateway_transaction_id"].startswith("pi_orphan") != is_prepared


async def test_money_for_an_orphan_of_a_paid_payment_is_reported(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    database: Database,
) -> None:
    body = first()
    await charge(client, vouchers, body)
    before, counted = await payment_of(database), CONTRADICTIONS._value.get()
    await deliver(client, success_of_orphan(body["voucher_id"]))
    await webhooks.process_due(transactions, gateways)
    assert await payment_of(database) == before
    assert CONTRADICTIONS._value.get() == counted + 1
