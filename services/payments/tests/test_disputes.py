"""Disputes: recorded, seen by the organization, and never given back a second time."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.service import webhooks
from services.payments.telemetry import DISPUTES
from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    OTHER_ORGANIZATION,
    CardIssuer,
    deliver,
    dispute_of,
    event,
    order,
)
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
Tell = Callable[..., Awaitable[None]]
BASE = f"/api/organizations/{ORGANIZATION}/payments"


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


@pytest.fixture
async def paid(client: httpx.AsyncClient, vouchers: Headers) -> dict[str, Any]:
    """A card payment of 399.99."""
    return await charge(client, vouchers, order())


@pytest.fixture
def tell(
    client: httpx.AsyncClient,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    paid: dict[str, Any],
) -> Tell:
    """Deliver an event about a dispute of the payment, and deal with it."""

    async def told(kind: str, status: str, dispute_id: str = "dp_1", **changes: Any) -> None:
        [row] = await database.rows(
            "SELECT gateway_transaction_id AS id FROM payment_transactions WHERE id = $1",
            paid["transaction_id"],
        )
        changed = {name: changes.pop(name) for name in ("account",) if name in changes}
        content = dispute_of(row["id"], dispute_id, status=status, **changes)
        body = event(f"charge.dispute.{kind}", content, **changed)
        for _ in range(2):
            assert (await deliver(client, body)).status_code == 200
            await webhooks.process_due(transactions, gateways)

    return told


async def _events(database: Database) -> list[dict[str, Any]]:
    return [e for e in await database.events() if e["type"].startswith("payments.dispute.")]


async def test_a_dispute_is_recorded_counted_and_seen(
    client: httpx.AsyncClient,
    owner: Headers,
    tokens: Tokens,
    paid: dict[str, Any],
    tell: Tell,
    database: Database,
) -> None:
    counted = DISPUTES.labels("open")._value.get()
    await tell("created", "needs_response")
    await tell("updated", "under_review")
    assert DISPUTES.labels("open")._value.get() == counted + 1
    for headers in (owner, tokens.bearer(9, "admin")):
        [shown] = (await client.get(f"{BASE}/disputes?status=open", headers=headers)).json()
        assert (shown["transaction_id"], shown["amount"]) == (paid["transaction_id"], 399.99)
        assert (shown["reason"], shown["status"]) == ("fraudulent", "open")
    payment = await client.get(f"/api/payments/{paid['transaction_id']}", headers=owner)
    assert (payment.json()["status"], payment.json()["disputed_amount"]) == ("succeeded", 399.99)
    [opened] = await _events(database)
    assert opened["type"] == "payments.dispute.opened.v1"
    assert opened["data"]["new_values"]["status"] == "open"
    assert opened["data"]["organization_id"] == ORGANIZATION
    await tell("closed", "lost")
    await tell("closed", "won")
    [_, closed] = await _events(database)
    assert closed["data"]["new_values"]["status"] == "lost"
    [row] = await database.rows("SELECT status, closed_at FROM disputes")
    assert (row["status"], row["closed_at"] is None) == ("lost", False)
    invoices = await database.rows("SELECT kind FROM invoices")
    assert [invoice["kind"] for invoice in invoices] == ["invoice"], "the claim does not end"


@pytest.mark.parametrize(
    ("status", "refund"), [("needs_response", 409), ("lost", 409), ("won", 201)]
)
async def test_what_is_disputed_is_not_given_back_as_well(
    client: httpx.AsyncClient,
    owner: Headers,
    paid: dict[str, Any],
    tell: Tell,
    status: str,
    refund: int,
) -> None:
    await tell("created", "needs_response")
    if status != "needs_response":
        await tell("closed", status)
    path = f"{BASE}/{paid['transaction_id']}/refunds"
    for body in ({"amount": 1}, {}):
        answer = await client.post(path, json=body, headers=owner)
        assert answer.status_code == refund, answer.text
        if refund == 409:
            assert answer.json()["code"] == "payment_disputed"
            assert "bank" in answer.json()["detail"]


async def test_a_part_that_is_disputed_leaves_the_rest(
    client: httpx.AsyncClient, owner: Headers, paid: dict[str, Any], tell: Tell
) -> None:
    await tell("created", "needs_response", amount=10_000)
    path = f"{BASE}/{paid['transaction_id']}/refunds"
    for amount, code in ((300, "payment_disputed"), (400, "refund_exceeds_payment")):
        refused = await client.post(path, json={"amount": amount}, headers=owner)
        assert (refused.status_code, refused.json()["code"]) == (409, code)
    assert (await client.post(path, json={"amount": 299.99}, headers=owner)).status_code == 201


async def test_the_end_before_the_beginning(tell: Tell, database: Database) -> None:
    await tell("closed", "won")
    await tell("created", "needs_response")
    told = [event["data"]["new_values"]["status"] for event in await _events(database)]
    assert told == ["open", "won"]
    [row] = await database.rows("SELECT disputed_amount FROM payment_transactions")
    assert row["disputed_amount"] == 0


@pytest.mark.parametrize("status", ["warning_closed", "prevented"])
async def test_an_inquiry_that_ends_takes_nothing(
    tell: Tell, database: Database, status: str
) -> None:
    await tell("created", "warning_needs_response")
    await tell("closed", status)
    [row] = await database.rows("SELECT status FROM disputes")
    assert row["status"] == "won"


async def test_two_disputes_and_another_currency(tell: Tell, database: Database) -> None:
    await tell("created", "needs_response", "dp_1", amount=100)
    await tell("created", "needs_response", "dp_2", amount=200)
    [row] = await database.rows("SELECT disputed_amount FROM payment_transactions")
    assert float(row["disputed_amount"]) == 3.00
    await tell("created", "needs_response", "dp_3", amount=100, currency="eur")
    [row] = await database.rows("SELECT disputed_amount FROM payment_transactions")
    assert float(row["disputed_amount"]) == 399.99, "how much that is only the bank knows"


@pytest.mark.parametrize(
    "changes", [{"livemode": True}, {"account": "acct_other"}, {"payment_intent": "pi_other"}]
)
async def test_a_dispute_of_a_payment_that_is_not_ours(
    tell: Tell, database: Database, changes: dict[str, Any]
) -> None:
    await tell("created", "needs_response", **changes)
    assert await database.rows("SELECT * FROM disputes") == []
    [row] = await database.rows("SELECT outcome FROM webhook_events")
    assert row["outcome"] == "unchanged"


async def test_a_dispute_without_what_it_should_have_is_400(client: httpx.AsyncClient) -> None:
    for content in (dispute_of("pi_1", currency=None), dispute_of("pi_1", amount="x")):
        del content["status"]
        answer = await deliver(client, event("charge.dispute.created", content))
        assert answer.status_code == 400


async def test_who_sees_disputes(
    client: httpx.AsyncClient, tokens: Tokens, tell: Tell, issuer: CardIssuer
) -> None:
    await tell("created", "needs_response")
    for headers, expected in (
        ({}, 401),
        (tokens.bearer(3, "staff", ORGANIZATION, ("view_payments",)), 200),
        (tokens.bearer(4, "therapist", ORGANIZATION), 403),
        (tokens.bearer(CLIENT, "client", ORGANIZATION), 403),
        (tokens.bearer(8, "organization_owner", OTHER_ORGANIZATION), 404),
    ):
        answer = await client.get(f"{BASE}/disputes", headers=headers)
        assert answer.status_code == expected
    own = f"/api/organizations/{OTHER_ORGANIZATION}/payments/disputes"
    stranger = tokens.bearer(8, "organization_owner", OTHER_ORGANIZATION)
    assert (await client.get(own, headers=stranger)).json() == []
