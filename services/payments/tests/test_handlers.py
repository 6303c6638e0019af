"""What comes from vouchers, each message twice."""

from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from services.payments.gateways import Gateways
from services.payments.handlers import FALLBACKS, VOUCHERS, find_opened, queues_of
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.signals import CLIENT, ORGANIZATION, CardIssuer, order
from services.payments.tests.test_charges import charge, types
from shared.db import now
from shared.events import Event, EventActor, EventData
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


def voucher_event(kind: str, voucher_id: int, old: dict[str, Any], new: dict[str, Any]) -> Event:
    return Event(
        id=str(uuid7()),
        source="carnet/vouchers",
        type=f"vouchers.voucher.{kind}.v1",
        time=now(),
        subject=f"voucher/{voucher_id}",
        data=EventData(
            action=kind.upper(),
            entity_type="voucher",
            entity_id=voucher_id,
            entity_version=1,
            organization_id=ORGANIZATION,
            actor=EventActor(user_id=CLIENT, role="client"),
            correlation_id="correlation",
            old_values=old,
            new_values=new,
        ),
    )


def purchased(body: dict[str, Any]) -> Event:
    values = {
        "organization_id": body["organization_id"],
        "client_id": body["client_id"],
        "name": body["description"],
        "price": "399.99",
        "payment_amount": "399.99",
        "currency": body["currency"],
        "payment_method": body["payment_method"],
        "status": "pending",
        "buyer": body["buyer"],
        "seller": body["seller"],
    }
    return voucher_event("purchased", body["voucher_id"], {}, values)


def cancelled(body: dict[str, Any], before: str = "pending", **new: Any) -> Event:
    old = {"status": before} if before else {}
    return voucher_event("cancelled", body["voucher_id"], old, {"status": "cancelled", **new})


@pytest.fixture
def twice(transactions: Transactions, gateways: Gateways) -> Any:
    async def handle(event: Event) -> None:
        for _ in range(2):
            async with transactions.system(causation=event) as session:
                await queues_of(gateways)[VOUCHERS][event.type](session, event)

    return handle


async def test_a_purchase_makes_the_payment_that_the_call_did_not(
    client: httpx.AsyncClient, vouchers: Headers, twice: Any, database: Database
) -> None:
    body = order()
    await twice(purchased(body))
    [row] = await database.rows("SELECT * FROM payment_transactions")
    assert (row["status"], float(row["amount"]), row["client_id"]) == ("pending", 399.99, CLIENT)
    [event] = await database.events()
    assert event["data"]["correlation_id"] == "correlation"
    paid = await charge(client, vouchers, body)
    assert (paid["transaction_id"], paid["status"]) == (row["id"], "succeeded")


async def test_a_purchase_that_was_charged_changes_nothing(
    client: httpx.AsyncClient, vouchers: Headers, twice: Any, database: Database
) -> None:
    body = order()
    await charge(client, vouchers, body)
    before = await database.events()
    await twice(purchased(body))
    assert await database.events() == before


async def test_a_cancelled_voucher_voids_what_waits(
    client: httpx.AsyncClient, vouchers: Headers, twice: Any, database: Database
) -> None:
    body = order(payment_method="cash", payment_token=None)
    await charge(client, vouchers, body)
    await twice(cancelled(body))
    assert (await types(database))[-1] == "payments.payment.cancelled.v1"
    assert (await types(database)).count("payments.payment.cancelled.v1") == 1


async def test_a_voided_intent_is_cancelled_at_the_gateway(
    client: httpx.AsyncClient,
    vouchers: Headers,
    twice: Any,
    issuer: CardIssuer,
    reconciler: Reconciler,
    database: Database,
) -> None:
    body = order(payment_token=await issuer.card("4000002500003155"))
    waiting = await charge(client, vouchers, body)
    await twice(cancelled(body))
    await reconciler.settle_unfinished()
    intent_id = waiting["next_action"]["client_secret"].partition("_secret_")[0]
    assert (await issuer.intent(intent_id))["status"] == "canceled"
    assert (await types(database))[-1] == "payments.payment.cancelled.v1"


async def test_a_cancelled_vouchers_payment_is_not_there_to_be_confirmed(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    twice: Any,
    issuer: CardIssuer,
) -> None:
    body = order(payment_token=await issuer.card("4000002500003155"))
    waiting = await charge(client, vouchers, body)
    await twice(cancelled(body))
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    path = f"/api/payments/{waiting['transaction_id']}"
    shown = (await client.get(path, headers=payer)).json()
    assert (shown["status"], shown["next_action"]) == ("requires_action", None)
    assert (await charge(client, vouchers, body))["next_action"] is None
    card = {"payment_token": "pm_card_visa"}
    refused = await client.post(f"{path}/confirm", json=card, headers=payer)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_not_pending")
    assert await issuer.captures(body["voucher_id"]) == 0


async def test_money_that_was_faster_than_the_cancellation_goes_back(
    client: httpx.AsyncClient,
    vouchers: Headers,
    twice: Any,
    issuer: CardIssuer,
    reconciler: Reconciler,
    database: Database,
) -> None:
    body = order(payment_token=await issuer.card("4000002500003155"))
    waiting = await charge(client, vouchers, body)
    await issuer.authenticate(waiting["next_action"], success=True)
    await twice(cancelled(body))
    for _ in range(2):
        await reconciler.settle_unfinished()
        await reconciler.settle_refunds()
    [row] = await database.rows("SELECT status FROM payment_transactions")
    assert row["status"] == "refunded"
    assert await issuer.net(waiting["transaction_id"]) == 0


@pytest.mark.parametrize(
    ("before", "details", "status"),
    [
        ("pending", {}, "refunded"),
        ("", {"reason": "paid_after_cancellation"}, "refunded"),
        ("active", {"reason": "moved away"}, "succeeded"),
    ],
)
async def test_a_paid_voucher_that_never_became_active_is_given_back(
    client: httpx.AsyncClient,
    vouchers: Headers,
    twice: Any,
    reconciler: Reconciler,
    database: Database,
    before: str,
    details: dict[str, Any],
    status: str,
) -> None:
    body = order()
    await charge(client, vouchers, body)
    await twice(cancelled(body, before, **details))
    for _ in range(2):
        await reconciler.settle_refunds()
    [row] = await database.rows("SELECT status FROM payment_transactions")
    assert row["status"] == status


async def test_a_cancellation_of_an_unknown_voucher_is_nothing(twice: Any) -> None:
    await twice(cancelled(order()))


async def test_only_a_purchase_whose_payment_exists_is_left_out(
    client: httpx.AsyncClient, vouchers: Headers, database: Database, transactions: Transactions
) -> None:
    charged = order()
    await charge(client, vouchers, charged)
    known, unknown = purchased(charged), purchased(order())
    assert FALLBACKS[VOUCHERS.name].types == {known.type}
    async with database.admin() as admin, admin.transaction():
        # A look waits for no lock: the charges that it would otherwise get in the way of hold some.
        await admin.execute("SELECT 1 FROM payment_transactions FOR UPDATE")
        async with transactions.system() as session:
            assert await find_opened(session, [unknown, known]) == {known.id}
