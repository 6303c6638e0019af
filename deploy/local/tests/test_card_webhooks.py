"""Webhooks, events, idempotency keys, and books that outlive their process."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.card_gateway.store import Store
from deploy.local.tests.card_books import CONNECT_HOOK, PLATFORM_HOOK, Books, opened_books
from shared.testing import until

pytestmark = pytest.mark.anyio

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with opened_books(Store(":memory:")) as books:
        yield books


async def test_each_kind_of_endpoint_receives_its_events(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, application_fee_amount=5)
    await books.pay()
    await until(lambda: len(books.receiver.events) == 1 + 3 + 1 + 3)
    assert sorted(books.receiver.types(CONNECT_HOOK)) == sorted(["account.updated", *PAID])
    assert sorted(books.receiver.types(PLATFORM_HOOK)) == sorted(["application_fee.created", *PAID])
    for url, event in books.receiver.events:
        assert event.get("account") == (account if url == CONNECT_HOOK else None)
        assert (event["livemode"], event["object"]) == (False, "event")
    [succeeded] = [
        event
        for url, event in books.receiver.events
        if url == CONNECT_HOOK and event["type"] == "payment_intent.succeeded"
    ]
    assert succeeded["data"]["object"] == intent
    listed = await books.get("/v1/events", {"type": "payment_intent.succeeded"}, account)
    assert [event["id"] for event in listed["data"]] == [succeeded["id"]]
    two = {"types[0]": "charge.succeeded", "types[1]": "account.updated"}
    assert len((await books.get("/v1/events", two, account))["data"]) == 2


async def test_a_webhook_is_repeated_until_it_is_accepted(books: Books) -> None:
    books.receiver.refusals = 3
    await books.pay()
    await until(lambda: len(books.receiver.events) == 3)
    received = {event["id"] for _, event in books.receiver.events}
    assert len(books.receiver.refused) == 3
    assert set(books.receiver.refused) <= received
    events = (await books.get("/v1/events"))["data"]
    await until(lambda: pending(books))
    assert {event["id"] for event in events} == received


async def pending(books: Books) -> bool:
    """Return whether every event was delivered."""
    events = (await books.get("/v1/events"))["data"]
    return not any(event["pending_webhooks"] for event in events)


async def test_endpoints_are_created_changed_and_deleted(books: Books) -> None:
    fields = {"url": CONNECT_HOOK, "enabled_events[]": "payout.paid", "connect": "true"}
    created = await books.post("/v1/webhook_endpoints", fields)
    assert created["secret"].startswith("whsec_")
    path = f"/v1/webhook_endpoints/{created['id']}"
    assert "secret" not in await books.get(path)
    disabled = await books.post(path, {"disabled": "true"})
    assert disabled["status"] == "disabled"
    await books.send("DELETE", path)
    await books.get(path, expect=404)
    assert len((await books.get("/v1/webhook_endpoints"))["data"]) == 2


async def test_a_key_answers_the_same_again(books: Books) -> None:
    account, other = await books.account(), await books.account()
    fields = {"amount": 500, "currency": "pln"}
    first = await books.post("/v1/payment_intents", fields, account, key="k")
    assert await books.post("/v1/payment_intents", fields, account, key="k") == first
    headers = {"Stripe-Account": account, "Idempotency-Key": "k"}
    repeated = await books.client.post("/v1/payment_intents", data=fields, headers=headers)
    assert repeated.headers["idempotent-replayed"] == "true"
    changed = fields | {"amount": 600}
    error = await books.post("/v1/payment_intents", changed, account, key="k", expect=400)
    assert error["type"] == "idempotency_error"
    error = await books.post("/v1/refunds", fields, account, key="k", expect=400)
    assert error["type"] == "idempotency_error"
    of_other = await books.post("/v1/payment_intents", fields, other, key="k")
    assert of_other["id"] != first["id"]
    assert len((await books.get("/v1/payment_intents", None, account))["data"]) == 1


async def test_a_decline_and_a_refusal_are_repeated_too(books: Books) -> None:
    fields = {
        "amount": 500,
        "currency": "pln",
        "confirm": "true",
        "payment_method": "pm_card_visa_chargeDeclined",
    }
    first = await books.post("/v1/payment_intents", fields, key="d", expect=402)
    assert await books.post("/v1/payment_intents", fields, key="d", expect=402) == first
    assert len((await books.get("/v1/charges"))["data"]) == 1
    account = await books.account(outcome=None)
    payment = {"amount": 500, "currency": "pln"}
    await books.post("/v1/payment_intents", payment, account, key="r", expect=400)
    await books.post(f"/_test/accounts/{account}", {"outcome": "complete"})
    await books.post("/v1/payment_intents", payment, account, key="r", expect=400)
    # A request that was never executed stores nothing.
    await books.post("/v1/payment_intents", {"amount": "x"}, account, key="v", expect=400)
    await books.post("/v1/payment_intents", payment, account, key="v")


async def test_books_and_deliveries_outlive_the_process(tmp_path: Path) -> None:
    file = str(tmp_path / "books.sqlite")
    async with opened_books(Store(file), delay=0.1) as books:
        books.receiver.refusals = 1_000
        account = await books.account()
        intent = await books.pay(account)
    async with opened_books(Store(file)) as books:
        stored = await books.get(f"/v1/payment_intents/{intent['id']}", None, account)
        assert stored == intent
        await until(lambda: set(PAID) <= set(books.receiver.types(CONNECT_HOOK)))


async def test_the_books_can_be_emptied(books: Books) -> None:
    await books.pay(await books.account())
    await books.send("DELETE", "/_test/data")
    assert (await books.get("/v1/accounts"))["data"] == []
    assert len((await books.get("/v1/webhook_endpoints"))["data"]) == 2


def test_the_books_are_searched_by_index(tmp_path: Path) -> None:
    """A long chaos run has hundreds of thousands of objects."""
    Store(str(tmp_path / "books.sqlite")).close()
    connection = sqlite3.connect(tmp_path / "books.sqlite")
    for condition in ("", " AND json_extract(body, '$.payment_intent') = 'pi'"):
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT body FROM objects WHERE book = 'a' AND kind = 'refund'"
            f"{condition} ORDER BY seq DESC LIMIT 10"
        ).fetchall()
        assert "USING INDEX" in str(plan)
        assert "TEMP B-TREE" not in str(plan)
    connection.close()


async def test_requests_at_once_are_executed_one_after_another(books: Books) -> None:
    account = await books.account()
    payments = await asyncio.gather(*(books.pay(account, amount=1000 + n) for n in range(20)))
    assert {payment["status"] for payment in payments} == {"succeeded"}
    assert len((await books.get("/v1/charges", {"limit": 100}, account))["data"]) == 20
