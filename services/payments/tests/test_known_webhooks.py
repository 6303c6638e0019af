"""Webhooks that report what our books have already: finished when they are stored."""

from typing import Any

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.service import webhooks
from services.payments.telemetry import WEBHOOKS
from services.payments.tests.signals import CardIssuer, deliver, event, intent_event, order
from services.payments.tests.test_charges import charge
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Intent = dict[str, Any]


@pytest.fixture
async def paid(
    client: httpx.AsyncClient, vouchers: dict[str, str], issuer: CardIssuer, database: Database
) -> Intent:
    """The intent of a payment that the charge's own answer has settled."""
    await charge(client, vouchers, order())
    [row] = await database.rows("SELECT gateway_transaction_id AS id FROM payment_transactions")
    return await issuer.intent(row["id"])


async def stored(database: Database) -> dict[str, Any]:
    [row] = await database.rows("SELECT * FROM webhook_events")
    return row


async def test_a_known_success_needs_no_worker(
    client: httpx.AsyncClient, paid: Intent, database: Database
) -> None:
    counter = WEBHOOKS.labels("stripe", "unchanged")
    before = counter._value.get()
    body = intent_event(paid)
    assert (await deliver(client, body)).json() == {"status": "stored"}
    row = await stored(database)
    assert (row["outcome"], row["next_attempt_at"], row["attempts"]) == ("unchanged", None, 0)
    assert row["body"] == body
    assert (await deliver(client, body)).json() == {"status": "known"}
    assert counter._value.get() == before + 1


@pytest.mark.parametrize(
    ("changes", "event_changes"),
    [
        ({"amount": 39998}, {}),
        ({"amount_received": 39998}, {}),
        ({"currency": "eur"}, {}),
        ({"currency": "kwd", "amount": 399990, "amount_received": 399991}, {}),
        ({"amount": 10**20, "amount_received": 10**20}, {}),
        ({"livemode": True}, {}),
        ({}, {"account": "acct_of_somebody"}),
        ({"status": "canceled"}, {}),
        ({"id": "pi_of_another_shop"}, {}),
    ],
)
async def test_everything_else_waits_for_the_worker(
    client: httpx.AsyncClient,
    paid: Intent,
    database: Database,
    gateways: Gateways,
    transactions: Transactions,
    changes: dict[str, Any],
    event_changes: dict[str, Any],
) -> None:
    await deliver(client, intent_event(paid | changes, **event_changes))
    row = await stored(database)
    assert (row["outcome"], row["next_attempt_at"] is not None) == (None, True)
    await webhooks.process_due(transactions, gateways)
    assert (await stored(database))["outcome"] == "unchanged"


async def test_a_success_of_a_payment_that_waits_is_for_the_worker(
    client: httpx.AsyncClient, vouchers: dict[str, str], issuer: CardIssuer, database: Database
) -> None:
    body = order(payment_token=await issuer.card("4000002500003155"))
    waiting = await charge(client, vouchers, body)
    secret = waiting["next_action"]["client_secret"]
    intent = await issuer.intent(secret.partition("_secret_")[0])
    await deliver(client, intent_event(intent | {"status": "succeeded"}))
    assert (await stored(database))["outcome"] is None


async def test_a_refund_is_for_the_worker(
    client: httpx.AsyncClient, paid: Intent, issuer: CardIssuer, database: Database
) -> None:
    await issuer.refund(paid["id"], 10000)
    await deliver(client, event("charge.refunded", await issuer.charge_of(paid["id"])))
    assert (await stored(database))["outcome"] is None
