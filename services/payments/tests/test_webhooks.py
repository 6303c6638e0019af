"""Webhooks: forged, old, future, malformed, repeated, shuffled, contradictory."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.service import webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.telemetry import QUARANTINED
from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    CardIssuer,
    deliver,
    event,
    intent_event,
    order,
    signature,
    succeeded,
)
from services.payments.tests.test_charges import charge, types
from shared.card_numbers import holds_card_number
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
Waiting = tuple[dict[str, Any], dict[str, Any]]
Process = Callable[[], Awaitable[None]]


@pytest.fixture
async def waiting(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, database: Database
) -> Waiting:
    """A payment that waits for the bank's confirmation, with its intent."""
    token = await issuer.card("4000002500003155")
    body = await charge(client, vouchers, order(payment_token=token))
    intent = await issuer.intent(body["next_action"]["client_secret"].partition("_secret_")[0])
    return body, succeeded(intent)


@pytest.fixture
def process(transactions: Transactions, gateways: Gateways) -> Process:
    async def process_waiting() -> None:
        await webhooks.process_due(transactions, gateways)

    return process_waiting


async def status(database: Database) -> str:
    [row] = await database.rows("SELECT status FROM payment_transactions")
    return str(row["status"])


async def test_a_signed_success_succeeds_and_a_repetition_changes_nothing(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    body = intent_event(waiting[1])
    for _ in range(3):
        assert (await deliver(client, body)).status_code == 200
        await process()
    assert await status(database) == "succeeded"
    assert len(await database.rows("SELECT * FROM webhook_events")) == 1
    assert (await types(database)).count("payments.payment.succeeded.v1") == 1
    [stored] = await database.rows("SELECT body, outcome FROM webhook_events")
    assert (stored["body"], stored["outcome"]) == (body, "applied")


async def test_a_gateways_own_numbers_may_look_like_a_cards(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    """Card networks number their transactions with fifteen digits: one in ten has a check digit."""
    body = intent_event(waiting[1] | {"network_transaction_id": "424242424242424"})
    assert holds_card_number("424242424242424")
    answer = await deliver(client, body)
    assert answer.status_code == 200
    await process()
    assert await status(database) == "succeeded"


async def test_two_events_for_one_success_have_one_effect(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    for _ in range(2):
        await deliver(client, intent_event(waiting[1]))
    await asyncio.gather(process(), process(), process())
    assert (await types(database)).count("payments.payment.succeeded.v1") == 1
    assert len(await database.rows("SELECT * FROM invoices")) == 1


async def test_the_same_event_after_days_with_a_fresh_signature(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    body = intent_event(waiting[1])
    await deliver(client, body)
    await process()
    async with database.admin() as admin:
        await admin.execute("UPDATE webhook_events SET received_at = now() - interval '3 days'")
    again = await deliver(client, body)
    assert (again.status_code, again.json()) == (200, {"status": "known"})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "t=,v1=",
        "t=abc,v1=def",
        "t=1,v1=" + "0" * 64,
        "t=99999999999999999999999,v1=00",
        "t=1" * 3000,
        "v1=" + "0" * 64,
        "t=1,v1=é",
    ],
)
async def test_a_malformed_signature_is_400(
    client: httpx.AsyncClient, waiting: Waiting, database: Database, header: str
) -> None:
    body = intent_event(waiting[1])
    answer = await deliver(client, body, header)
    assert (answer.status_code, answer.json()["code"]) == (400, "webhook_not_verified")
    assert await database.rows("SELECT * FROM webhook_events") == []


async def test_a_missing_signature_is_400(client: httpx.AsyncClient, waiting: Waiting) -> None:
    path = "/api/payments/webhooks/stripe"
    assert (await client.post(path, content=intent_event(waiting[1]))).status_code == 400
    assert (await client.post(path)).status_code == 400


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"secret": "whsec_of_another"}, 400),
        ({"at": -301}, 400),
        ({"at": 330}, 400),
        ({"at": 3 * 24 * 3600}, 400),
        ({"at": -270}, 200),
        ({"at": 290}, 200),
    ],
)
async def test_only_our_secret_within_five_minutes(
    client: httpx.AsyncClient, waiting: Waiting, changes: dict[str, Any], expected: int
) -> None:
    body = intent_event(waiting[1])
    if "at" in changes:
        changes = {"at": time.time() + changes["at"]}
    answer = await deliver(client, body, signature(body, **changes))
    assert answer.status_code == expected


async def test_an_altered_body_is_400(client: httpx.AsyncClient, waiting: Waiting) -> None:
    body = intent_event(waiting[1])
    altered = body.replace(b"39999", b"39998")
    assert altered != body
    assert (await deliver(client, altered, signature(body))).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"id": "evt_1"}',
        b'{"id": 1, "type": "payment_intent.succeeded", "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": []}}',
        b'{"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "charge.refunded", "data": {"object": {"payment_intent": 1}}}',
        b'{"id": "evt\\u0000", "type": "payment_intent.succeeded", "data": {"object": {}}}',
        b'{"id": "evt_\\ud800", "type": "other", "data": {"object": {}}}',
        json.dumps(
            {
                "id": "evt_1",
                "type": "payment_intent.succeeded",
                "data": {"object": {"id": "pi", "amount": "x", "currency": "usd", "status": "new"}},
            }
        ).encode(),
    ],
)
async def test_a_signed_body_that_is_no_event_is_400(
    client: httpx.AsyncClient, database: Database, body: bytes
) -> None:
    answer = await deliver(client, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "webhook_not_verified")
    assert await database.rows("SELECT * FROM webhook_events") == []


async def test_unknown_gateways_are_404(client: httpx.AsyncClient) -> None:
    for name in ("paypal", "manual"):
        answer = await client.post(f"/api/payments/webhooks/{name}", content=b"{}")
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("changes", "event_changes", "reason"),
    [
        ({"amount": 39998}, {}, "amount"),
        ({"amount_received": 1}, {}, "amount"),
        ({"currency": "eur"}, {}, "currency"),
        ({"livemode": True}, {}, "live mode"),
        ({}, {"account": "acct_of_somebody"}, "account"),
    ],
)
async def test_what_does_not_match_is_quarantined_and_never_active(
    client: httpx.AsyncClient,
    waiting: Waiting,
    process: Process,
    database: Database,
    changes: dict[str, Any],
    event_changes: dict[str, Any],
    reason: str,
) -> None:
    await deliver(client, intent_event(waiting[1] | changes, **event_changes))
    await process()
    assert await status(database) == "quarantined"
    await deliver(client, intent_event(waiting[1]))
    await process()
    assert await status(database) == "quarantined"
    assert "payments.payment.succeeded.v1" not in await types(database)
    [row] = await database.rows("SELECT * FROM payment_transactions")
    assert reason in row["quarantine_reason"]
    assert await database.rows("SELECT * FROM invoices") == []
    quarantined = (await database.events())[-1]
    assert quarantined["type"] == "payments.payment.quarantined.v1"


async def test_what_is_quarantined_is_seen_counted_and_can_be_given_back(
    client: httpx.AsyncClient,
    waiting: Waiting,
    process: Process,
    issuer: CardIssuer,
    tokens: Tokens,
    capfd: pytest.CaptureFixture[str],
) -> None:
    body, intent = waiting
    counted = QUARANTINED._value.get()
    await issuer.authenticate(body["next_action"], success=True)
    await deliver(client, intent_event(intent | {"currency": "eur"}))
    await process()
    assert QUARANTINED._value.get() == counted + 1
    assert "payment_quarantined" in "".join(capfd.readouterr())
    base = f"/api/organizations/{ORGANIZATION}/payments"
    for caller in (
        tokens.bearer(9, "admin"),
        tokens.bearer(1, "organization_owner", ORGANIZATION),
    ):
        answer = await client.get(f"{base}?status=quarantined", headers=caller)
        [shown] = answer.json()
        assert shown["id"] == body["transaction_id"]
        assert "currency EUR" in shown["quarantine_reason"]
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    own = await client.get(f"/api/payments/{body['transaction_id']}", headers=payer)
    assert (own.json()["status"], own.json()["quarantine_reason"]) == ("quarantined", None)
    path = f"{base}/{body['transaction_id']}/refunds"
    back = await client.post(path, headers=caller)
    assert (back.status_code, back.json()["status"]) == (201, "succeeded")
    assert await issuer.net(body["transaction_id"]) == 0


async def test_a_webhook_whose_row_is_not_committed_is_not_acknowledged(
    client: httpx.AsyncClient, waiting: Waiting, database: Database
) -> None:
    async with database.admin() as admin:
        await admin.execute(
            "CREATE FUNCTION refuse_to_commit() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not today'; END $$;"
            "CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON webhook_events"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_to_commit()"
        )
        try:
            refused = await deliver(client, intent_event(waiting[1]))
        finally:
            await admin.execute("DROP FUNCTION refuse_to_commit CASCADE")
    assert refused.status_code >= 500
    assert await database.rows("SELECT * FROM webhook_events") == []


async def test_a_late_failure_or_cancellation_changes_nothing(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    await deliver(client, intent_event(waiting[1]))
    await process()
    error = {"last_payment_error": {"code": "card_declined", "message": "no"}}
    failed = waiting[1] | {"status": "requires_payment_method"} | error
    await deliver(client, intent_event(failed, "payment_failed"))
    await deliver(client, intent_event(waiting[1] | {"status": "canceled"}, "canceled"))
    await deliver(client, intent_event(waiting[1] | {"amount": 1, "amount_received": 1}))
    before = await types(database)
    await process()
    assert await status(database) == "succeeded"
    assert await types(database) == before


async def test_money_after_the_end_is_quarantined(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    await deliver(client, intent_event(waiting[1] | {"status": "canceled"}, "canceled"))
    await process()
    assert await status(database) == "cancelled"
    await deliver(client, intent_event(waiting[1]))
    await process()
    assert await status(database) == "quarantined"
    [row] = await database.rows("SELECT * FROM payment_transactions")
    assert row["captured_amount"] == row["amount"]


async def test_refunded_before_succeeded(
    client: httpx.AsyncClient,
    waiting: Waiting,
    process: Process,
    database: Database,
    issuer: CardIssuer,
) -> None:
    body, intent = waiting
    await issuer.authenticate(body["next_action"], success=True)
    await issuer.refund(intent["id"], 10000)
    refunded = await issuer.charge_of(intent["id"])
    await deliver(client, event("charge.refunded", refunded))
    await process()
    await deliver(client, intent_event(intent))
    await process()
    assert await status(database) == "partially_refunded"
    assert (await types(database)).count("payments.payment.succeeded.v1") == 1
    assert (await types(database)).count("payments.refund.succeeded.v1") == 1
    kinds = await database.rows("SELECT kind, total FROM invoices ORDER BY id")
    assert [(row["kind"], float(row["total"])) for row in kinds] == [
        ("invoice", 399.99),
        ("credit_note", 100.0),
    ]


async def test_a_stranger_to_our_books_is_kept_and_changes_nothing(
    client: httpx.AsyncClient, waiting: Waiting, process: Process, database: Database
) -> None:
    foreign = waiting[1] | {"id": "pi_of_another_shop", "metadata": {}}
    assert (await deliver(client, intent_event(foreign))).status_code == 200
    assert (await deliver(client, event("customer.created", {"id": "cus_1"}))).status_code == 200
    await process()
    outcomes = await database.rows("SELECT outcome FROM webhook_events")
    assert {row["outcome"] for row in outcomes} == {"unchanged"}
    assert await status(database) == "requires_action"


async def test_hundreds_at_once_are_stored_and_the_api_answers(
    client: httpx.AsyncClient, waiting: Waiting, tokens: Tokens, database: Database
) -> None:
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    answers: list[httpx.Response] = []

    async def delivered(body: bytes) -> None:
        answers.append(await deliver(client, body))

    async def most_let_past() -> int:
        """The most webhooks that were answered between a payer's question and its answer."""
        most = 0
        for _ in range(10):
            before = len(answers)
            [mine] = (await client.get("/api/payments/my", headers=payer)).json()
            assert mine["id"] == waiting[0]["transaction_id"]
            most = max(most, len(answers) - before)
            await asyncio.sleep(0.02)
        return most

    most = asyncio.create_task(most_let_past())
    await asyncio.gather(*(delivered(intent_event(waiting[1])) for _ in range(300)))
    assert await most < 100, "it must not wait for all of them"
    assert {answer.status_code for answer in answers} == {200}
    [stored] = await database.rows("SELECT count(*) AS number FROM webhook_events")
    assert stored["number"] == 300


async def test_what_no_webhook_brought_is_taken_from_the_gateways_own_list(
    client: httpx.AsyncClient,
    waiting: Waiting,
    process: Process,
    database: Database,
    issuer: CardIssuer,
    reconciler: Reconciler,
) -> None:
    body, intent = waiting
    await issuer.authenticate(body["next_action"], success=True)
    await reconciler.catch_up()
    await process()
    assert await status(database) == "succeeded"
    await issuer.refund(intent["id"], 39999)
    for _ in range(2):
        await reconciler.catch_up()
        await process()
    assert await status(database) == "refunded"
    assert len(await database.rows("SELECT * FROM refunds")) == 1


async def test_bodies_are_forgotten_in_time_and_the_event_is_still_known(
    client: httpx.AsyncClient,
    waiting: Waiting,
    process: Process,
    transactions: Transactions,
    database: Database,
) -> None:
    old, young = (intent_event(waiting[1]) for _ in range(2))
    unfinished = event("customer.created", {"id": "cus_1"})
    await deliver(client, old)
    await process()
    await deliver(client, unfinished)
    async with database.admin() as admin:
        await admin.execute("UPDATE webhook_events SET received_at = now() - interval '91 days'")
    await deliver(client, young)
    assert await webhooks.delete_bodies(transactions, timedelta(days=90)) == 1
    assert await webhooks.delete_bodies(transactions, timedelta(days=90)) == 0
    rows = await database.rows("SELECT body, outcome FROM webhook_events ORDER BY id")
    assert [row["body"] for row in rows] == [None, unfinished, young]
    assert rows[0]["outcome"] == "applied"
    assert (await deliver(client, old)).json() == {"status": "known"}
    await process()
    assert (await types(database)).count("payments.payment.succeeded.v1") == 1
