"""Money that a person must give back: one of two wins, and what is due is listed and settled."""

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from services.payments import queries
from services.payments.gateways import Gateways
from services.payments.gateways.protocol import Failure
from services.payments.handlers import VOUCHERS, queues_of
from services.payments.models import RefundSource
from services.payments.service import refunds
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.signals import CLIENT, ORGANIZATION, OTHER_ORGANIZATION, order
from services.payments.tests.test_charges import charge, types
from services.payments.tests.test_handlers import cancelled
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
BASE = f"/api/organizations/{ORGANIZATION}"
CASH = {"payment_method": "cash", "payment_token": None}


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


@pytest.fixture
def deliver(transactions: Transactions, gateways: Gateways) -> Any:
    async def handle(event: Any) -> None:
        for _ in range(2):
            async with transactions.system(causation=event) as session:
                await queues_of(gateways)[VOUCHERS][event.type](session, event)

    return handle


async def _close(
    client: httpx.AsyncClient, vouchers: Headers, body: dict[str, Any]
) -> httpx.Response:
    path = f"/internal/vouchers/{body['voucher_id']}/payment/close"
    return await client.post(path, headers=vouchers)


async def _mark_paid(
    client: httpx.AsyncClient, owner: Headers, payment: dict[str, Any]
) -> httpx.Response:
    path = f"{BASE}/payments/{payment['transaction_id']}/mark-paid"
    return await client.post(path, headers=owner)


async def _listed(client: httpx.AsyncClient, headers: Headers, **query: Any) -> list[Any]:
    answer = await client.get(f"{BASE}/payments/repayments", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[Any] = answer.json()
    return rows


async def test_either_the_money_or_the_cancellation_wins(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers
) -> None:
    wins = []
    for number in range(10):
        body = order(**CASH)
        payment = await charge(client, vouchers, body)
        racing = [_close(client, vouchers, body), _mark_paid(client, owner, payment)]
        if number % 2:
            racing.reverse()
        answers = await asyncio.gather(*racing)
        closed, paid = reversed(answers) if number % 2 else answers
        codes = (closed.status_code, paid.status_code)
        assert codes in ((204, 409), (409, 200)), (closed.text, paid.text)
        wins.append(codes)
        repeated = await _close(client, vouchers, body)
        assert repeated.status_code == closed.status_code, "it may be asked again"
    assert wins


async def test_a_payment_at_the_gateway_is_not_closed(
    client: httpx.AsyncClient, vouchers: Headers
) -> None:
    body = order()
    await charge(client, vouchers, body)
    assert (await _close(client, vouchers, body)).status_code == 204
    assert (await _close(client, vouchers, order())).status_code == 204, "there is none yet"


async def test_a_cancellation_that_never_comes_ends_the_closed_payment(
    client: httpx.AsyncClient,
    vouchers: Headers,
    reconciler: Reconciler,
    database: Database,
) -> None:
    body = order(**CASH)
    await charge(client, vouchers, body)
    await _close(client, vouchers, body)
    await reconciler.end_closed()
    assert (await types(database))[-1] == "payments.payment.created.v1"
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE payment_transactions SET void_requested_at = now() - interval '6 minutes'"
        )
    await reconciler.end_closed()
    assert (await types(database))[-1] == "payments.payment.cancelled.v1"


async def _due_cash(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, deliver: Any
) -> dict[str, Any]:
    """Money that came by hand although its voucher was cancelled, as before the guard."""
    body = order(**CASH)
    payment = await charge(client, vouchers, body)
    assert (await _mark_paid(client, owner, payment)).status_code == 200
    await deliver(cancelled(body))
    return payment


async def test_cash_of_a_cancelled_voucher_is_listed_and_settled(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    tokens: Tokens,
    deliver: Any,
    database: Database,
) -> None:
    payment = await _due_cash(client, vouchers, owner, deliver)
    [row] = await _listed(client, owner, status="due")
    assert row["transaction_id"] == payment["transaction_id"]
    assert (row["amount"], row["currency"], row["reason"]) == (399.99, "USD", "voucher_cancelled")
    assert (row["status"], row["client_id"], row["settled_at"]) == ("due", CLIENT, None)
    path = f"{BASE}/payments/repayments/{row['id']}/settle"
    settled = await client.post(path, json={"note": "In cash, signed"}, headers=owner)
    assert settled.status_code == 200, settled.text
    assert (settled.json()["status"], settled.json()["note"]) == ("settled", "In cash, signed")
    assert settled.json()["settled_at"] is not None
    again = await client.post(path, headers=owner)
    assert (again.status_code, again.json()["code"]) == (409, "repayment_settled")
    assert await _listed(client, owner, status="due") == []
    assert len(await _listed(client, owner)) == 1
    shown = await client.get(f"/api/payments/{payment['transaction_id']}", headers=owner)
    assert (shown.json()["status"], shown.json()["refunded_amount"]) == ("refunded", 399.99)
    told = await types(database)
    for kind in ("repayment.due", "repayment.settled", "refund.succeeded"):
        assert told.count(f"payments.{kind}.v1") == 1, kind
    assert "signed" not in str([e for e in await database.events() if "repayment" in e["type"]]), (
        "words about a client are not for the trail"
    )
    notes = f"/api/payments/{payment['transaction_id']}/credit-notes"
    assert len((await client.get(notes, headers=owner)).json()) == 1


async def test_two_who_settle_at_once_give_it_back_once(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, deliver: Any, database: Database
) -> None:
    await _due_cash(client, vouchers, owner, deliver)
    [row] = await _listed(client, owner)
    path = f"{BASE}/payments/repayments/{row['id']}/settle"
    answers = await asyncio.gather(*(client.post(path, headers=owner) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert len(await database.rows("SELECT 1 FROM refunds")) == 1


async def test_an_ordinary_refund_makes_less_due(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, deliver: Any, database: Database
) -> None:
    payment = await _due_cash(client, vouchers, owner, deliver)
    path = f"{BASE}/payments/{payment['transaction_id']}/refunds"
    assert (await client.post(path, json={"amount": 100}, headers=owner)).status_code == 201
    [row] = await _listed(client, owner, status="due")
    assert row["amount"] == 299.99
    assert (await client.post(path, headers=owner)).status_code == 201
    assert await _listed(client, owner, status="due") == []
    told = [kind for kind in await types(database) if "repayment" in kind]
    assert told == [f"payments.repayment.{what}.v1" for what in ("due", "reduced", "settled")]


async def test_a_refund_that_the_gateway_refuses_is_due_by_hand(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    transactions: Transactions,
) -> None:
    """No person requested the refund of a cancelled voucher, so no one would see that it failed."""
    paid = await charge(client, vouchers, order())
    async with transactions.system() as session:
        payment = await queries.lock_payment(session, paid["transaction_id"])
        source = RefundSource.CANCELLATION
        refund = await refunds.create_refund(session, payment, None, source=source)
        await refunds.fail_refund(session, payment, refund, Failure("refund_failed", "Refused."))
    [row] = await _listed(client, owner)
    assert (row["reason"], row["amount"], row["status"]) == ("refund_failed", 399.99, "due")
    path = f"{BASE}/payments/repayments/{row['id']}/settle"
    assert (await client.post(path, headers=owner)).status_code == 200
    shown = await client.get(f"/api/payments/{paid['transaction_id']}", headers=owner)
    assert shown.json()["status"] == "refunded"


async def test_a_refund_that_fails_again_is_due_once(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, transactions: Transactions
) -> None:
    paid = await charge(client, vouchers, order())
    for _ in range(2):
        async with transactions.system() as session:
            payment = await queries.lock_payment(session, paid["transaction_id"])
            source = RefundSource.CANCELLATION
            refund = await refunds.create_refund(session, payment, None, source=source)
            await refunds.fail_refund(session, payment, refund, Failure("refund_failed", "No."))
    [row] = await _listed(client, owner, status="due")
    assert (row["reason"], row["amount"]) == ("refund_failed", 399.99)


async def test_who_sees_and_settles_repayments(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, tokens: Tokens, deliver: Any
) -> None:
    await _due_cash(client, vouchers, owner, deliver)
    [row] = await _listed(client, owner)
    path = f"{BASE}/payments/repayments"
    elsewhere = f"/api/organizations/{OTHER_ORGANIZATION}/payments/repayments/{row['id']}/settle"
    stranger = tokens.bearer(2, "organization_owner", OTHER_ORGANIZATION)
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    for headers, status in (({}, 401), (payer, 403), (stranger, 404)):
        assert (await client.get(path, headers=headers)).status_code == status
        settle = await client.post(f"{path}/{row['id']}/settle", headers=headers)
        assert settle.status_code == status
    assert (await client.post(elsewhere, headers=stranger)).status_code == 404
    missing = await client.post(f"{path}/987654321/settle", headers=owner)
    assert (missing.status_code, missing.json()["code"]) == (404, "repayment_not_found")


async def test_the_metrics_count_what_is_due(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    deliver: Any,
    reconciler: Reconciler,
) -> None:
    name, reason = "carnet_repayments_due", {"reason": "voucher_cancelled"}
    await reconciler.count_repayments()
    assert REGISTRY.get_sample_value(name, reason) == 0
    await _due_cash(client, vouchers, owner, deliver)
    await reconciler.count_repayments()
    assert REGISTRY.get_sample_value(name, reason) == 1
    [row] = await _listed(client, owner)
    await client.post(f"{BASE}/payments/repayments/{row['id']}/settle", headers=owner)
    await reconciler.count_repayments()
    assert REGISTRY.get_sample_value(name, reason) == 0
