"""The first charge of a voucher: prepared before it is stored, in two transactions."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event

from services.payments.gateways import Gateways
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.schemas import ChargeCreate, PaymentTerms
from services.payments.service import charges, payments, webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.telemetry import QUARANTINED
from services.payments.tests.connections import payment_of
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import CardIssuer, deliver, intent_event, order
from services.payments.tests.test_charges import charge, types
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


def first(**changes: Any) -> dict[str, Any]:
    """Return the body of the first charge of a new voucher."""
    return order(first=True, **changes)


def terms_of(body: dict[str, Any]) -> PaymentTerms:
    """Return the terms of a charge as the event of the purchase has them."""
    return PaymentTerms.model_validate(
        {name: body[name] for name in PaymentTerms.model_fields if name in body}
    )


@contextmanager
def counted_commits() -> Iterator[list[Any]]:
    """Collect the transactions that are committed in this process."""
    commits: list[Any] = []

    def count(connection: Any) -> None:
        commits.append(connection)

    event.listen(Engine, "commit", count)
    try:
        yield commits
    finally:
        event.remove(Engine, "commit", count)


async def test_two_transactions_and_the_usual_result(
    client: httpx.AsyncClient,
    vouchers: Headers,
    database: Database,
    issuer: CardIssuer,
    network: UnreliableNetwork,
) -> None:
    body = first()
    with counted_commits() as commits:
        paid = await charge(client, vouchers, body)
    assert len(commits) == 2
    assert (paid["status"], paid["failure"], paid["next_action"]) == ("succeeded", None, None)
    assert paid["invoice_number"].endswith("-000001")
    assert paid["completed_at"] is not None
    assert [path.rpartition("/")[2] for _, path in network.requests] == [
        "payment_intents",
        "confirm",
    ]
    assert await issuer.captures(body["voucher_id"]) == 1
    assert await types(database) == [
        "payments.payment.created.v1",
        "payments.invoice.issued.v1",
        "payments.payment.succeeded.v1",
    ]
    created, _, succeeded = await database.events()
    assert created["data"]["new_values"]["status"] == "processing"
    assert succeeded["data"]["old_values"]["status"] == "processing"
    assert created["data"]["entity_version"] < succeeded["data"]["entity_version"]
    assert await charge(client, vouchers, body) == paid, "whoever says that it is the first again"
    assert await charge(client, vouchers, body | {"first": False}) == paid


@pytest.mark.parametrize(
    "changes",
    [
        {"payment_token": "pm_card_chargeCustomerFail"},
        {"payment_token": "pm_never_was"},
        {"payment_token": None},
        {"amount": 0},
        {"payment_method": "bank_transfer", "payment_token": None},
        {"currency": "JPY"},
    ],
)
async def test_every_other_result_is_that_of_a_later_charge(
    client: httpx.AsyncClient, vouchers: Headers, database: Database, changes: dict[str, Any]
) -> None:
    answers, rows = [], []
    for body in (order(**changes), first(**changes)):
        answers.append(await charge(client, vouchers, body))
        columns = "status, failure_code, failure_message, captured_amount, payment_gateway"
        rows += await database.rows(
            f"SELECT {columns}, gateway_transaction_id IS NULL AS unprepared"
            f" FROM payment_transactions WHERE voucher_id = {body['voucher_id']}"
        )
    for answer in answers:
        for name in ("transaction_id", "completed_at", "invoice_number"):
            answer[name] = answer[name] is not None
    assert answers[0] == answers[1]
    assert rows[0] == rows[1]
    happened = await types(database)
    half = len(happened) // 2
    assert happened[:half] == happened[half:]


async def test_a_declined_card_leaves_nothing_that_could_be_paid(
    client: httpx.AsyncClient, vouchers: Headers, database: Database, issuer: CardIssuer
) -> None:
    await charge(client, vouchers, first(payment_token="pm_card_chargeCustomerFail"))
    intent = await issuer.intent((await payment_of(database))["gateway_transaction_id"])
    assert intent["status"] == "canceled"


async def test_three_d_secure_is_answered_without_another_look(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer
) -> None:
    body = first(payment_token=await issuer.card("4000002500003155"))
    with counted_commits() as commits:
        waiting = await charge(client, vouchers, body)
    assert len(commits) == 2
    assert (waiting["status"], waiting["invoice_number"]) == ("requires_action", None)
    assert waiting["next_action"]["client_secret"].startswith("pi_")
    assert await charge(client, vouchers, body) == waiting


async def test_other_terms_are_refused(client: httpx.AsyncClient, vouchers: Headers) -> None:
    body = first()
    await charge(client, vouchers, body)
    answer = await client.post("/internal/charges", json=body | {"amount": 1}, headers=vouchers)
    assert (answer.status_code, answer.json()["code"]) == (409, "charge_differs")


async def test_a_gateway_that_is_down_is_asked_once_and_the_payment_is_stored(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
) -> None:
    body = first()
    network.lose_request = to_path("/payment_intents")
    refused = await client.post("/internal/charges", json=body, headers=vouchers)
    assert (refused.status_code, len(network.requests)) == (503, 1)
    row = await payment_of(database)
    assert (row["status"], row["gateway_transaction_id"]) == ("processing", None)
    network.heal()
    assert (await charge(client, vouchers, body | {"first": False}))["status"] == "succeeded"
    assert await issuer.captures(body["voucher_id"]) == 1


@pytest.mark.parametrize("step", ["/payment_intents", "/confirm"])
@pytest.mark.parametrize("again", [False, True])
async def test_a_lost_answer_is_never_a_second_charge(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    step: str,
    again: bool,
) -> None:
    body = first()
    network.lose_answer = to_path(step)
    await client.post("/internal/charges", json=body, headers=vouchers)
    network.heal()
    assert (await charge(client, vouchers, body | {"first": again}))["status"] == "succeeded"
    assert await issuer.captures(body["voucher_id"]) == 1


@pytest.mark.parametrize("firsts", [(True, True), (True, False), (True, True, False) * 6])
async def test_several_at_once_charge_once(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    database: Database,
    firsts: tuple[bool, ...],
) -> None:
    body = order()
    answers = await asyncio.gather(
        *(charge(client, vouchers, body | {"first": is_first}) for is_first in firsts)
    )
    assert len({answer["transaction_id"] for answer in answers}) == 1
    assert await issuer.captures(body["voucher_id"]) == 1
    assert (await charge(client, vouchers, body))["status"] == "succeeded"
    assert len(await database.rows("SELECT * FROM invoices")) == 1
    intents = await issuer.intents_of(body["voucher_id"])
    assert sorted({intent["status"] for intent in intents} - {"succeeded"}) in ([], ["canceled"])


async def test_the_event_of_the_purchase_may_be_faster(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
) -> None:
    body = first()

    async def consume(request: httpx.Request) -> None:
        if to_path("/payment_intents")(request):
            async with transactions.system() as session:
                await payments.open_missing(session, gateways, terms_of(body))

    network.meanwhile = consume
    with counted_commits() as commits:
        paid = await charge(client, vouchers, body)
    assert paid["status"] == "succeeded"
    assert len(commits) == 3, "one of them is the event's"
    assert len(network.requests) == 2, "the intent that was prepared is used"
    assert await issuer.captures(body["voucher_id"]) == 1
    assert (await types(database))[:2] == [
        "payments.payment.created.v1",
        "payments.payment.processing.v1",
    ]


@pytest.mark.parametrize("is_over", [True, False])
async def test_an_intent_that_lost_the_race_is_cancelled(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
    is_over: bool,
) -> None:
    body = first()

    async def overtake(request: httpx.Request) -> None:
        if not to_path("/payment_intents")(request):
            return
        network.heal()
        if is_over:
            terms = ChargeCreate.model_validate(body | {"first": False})
            await charges.charge(transactions.system, gateways, terms)
            return
        async with transactions.system() as session:
            await payments.open_missing(session, gateways, terms_of(body))
            await payments.void_payment_of_voucher(session, body["voucher_id"])

    network.meanwhile = overtake
    answer = await charge(client, vouchers, body)
    assert answer["status"] == ("succeeded" if is_over else "cancelled")
    assert (answer["invoice_number"] is not None) == is_over
    assert await issuer.captures(body["voucher_id"]) == int(is_over)
    intents = await issuer.intents_of(body["voucher_id"])
    statuses = sorted(intent["status"] for intent in intents)
    assert statuses == (["canceled", "succeeded"] if is_over else ["canceled"])
    await payment_of(database)


async def test_a_webhook_may_be_faster_than_the_answer(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
) -> None:
    body = first()

    async def report(request: httpx.Request) -> None:
        if to_path("/confirm")(request):
            network.heal()
            intent = await issuer.intent((await payment_of(database))["gateway_transaction_id"])
            await deliver(client, intent_event(intent))
            await webhooks.process_due(transactions, gateways)
            assert (await payment_of(database))["status"] == "succeeded"

    network.meanwhile = report
    paid = await charge(client, vouchers, body)
    assert paid["status"] == "succeeded"
    assert paid["invoice_number"].endswith("-000001")
    assert (await types(database)).count("payments.payment.succeeded.v1") == 1
    assert len(await database.rows("SELECT * FROM invoices")) == 1


async def test_a_quarantine_that_a_webhook_has_entered_is_counted_once(
    stripe_settings: StripeSettings,
    client: httpx.AsyncClient,
    transactions: Transactions,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
) -> None:
    """Our side is in live mode, the gateway in test mode: each answer contradicts our books."""
    live = StripeGateway(stripe_settings, network)
    live.live = True
    gateways = Gateways({Method.CREDIT_CARD: live})

    async def report(request: httpx.Request) -> None:
        if to_path("/confirm")(request):
            network.heal()
            intent = await issuer.intent((await payment_of(database))["gateway_transaction_id"])
            await deliver(client, intent_event(intent))
            await webhooks.process_due(transactions, gateways)

    network.meanwhile = report
    counted = QUARANTINED._value.get()
    charged = await charges.charge(
        transactions.system, gateways, ChargeCreate.model_validate(first())
    )
    assert charged.payment["status"] == "quarantined"
    assert (await types(database)).count("payments.payment.quarantined.v1") == 1
    assert QUARANTINED._value.get() == counted + 1


async def test_webhooks_and_charges_of_one_organization_do_not_block_each_other(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    network: UnreliableNetwork,
    issuer: CardIssuer,
    database: Database,
) -> None:
    """Both lock the payment before the series of invoice numbers: the other order can deadlock."""
    bodies = [first() for _ in range(12)]

    async def report(request: httpx.Request) -> None:
        if to_path("/confirm")(request):
            intent = await issuer.intent(request.url.path.split("/")[3])
            await deliver(client, intent_event(intent))
            racing.append(asyncio.create_task(webhooks.process_due(transactions, gateways)))

    racing: list[asyncio.Task[None]] = []
    network.meanwhile = report
    answers = await asyncio.gather(*(charge(client, vouchers, body) for body in bodies))
    await asyncio.gather(*racing)
    assert {answer["status"] for answer in answers} == {"succeeded"}
    assert len({answer["invoice_number"] for answer in answers}) == len(bodies)
    assert (await types(database)).count("payments.payment.succeeded.v1") == len(bodies)
    outcomes = await database.rows("SELECT attempts FROM webhook_events")
    assert {row["attempts"] for row in outcomes} == {0}


async def test_a_voucher_that_is_cancelled_meanwhile_gets_its_money_back(
    client: httpx.AsyncClient,
    vouchers: Headers,
    transactions: Transactions,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    issuer: CardIssuer,
    database: Database,
) -> None:
    body = first()

    async def cancel(request: httpx.Request) -> None:
        if to_path("/confirm")(request):
            async with transactions.system() as session:
                await payments.void_payment_of_voucher(session, body["voucher_id"])

    network.meanwhile = cancel
    await charge(client, vouchers, body)
    await reconciler.settle_refunds()
    row = await payment_of(database)
    assert (row["status"], row["refunded_amount"]) == ("refunded", row["captured_amount"])
    charge_there = await issuer.charge_of(row["gateway_transaction_id"])
    assert charge_there["amount_refunded"] == 39999
