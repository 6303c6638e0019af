"""The worker as a whole: an event comes in, a webhook is dealt with, events go out."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.payments.events import LISTENERS
from services.payments.settings import Settings
from services.payments.tests.conftest import API_KEY
from services.payments.tests.signals import (
    ORGANIZATION,
    WEBHOOK_SECRET,
    CardIssuer,
    deliver,
    intent_event,
    order,
    succeeded,
)
from services.payments.tests.test_charges import charge
from services.payments.tests.test_handlers import purchased
from services.payments.tests.test_sellers import organization_changed
from services.payments.worker import create_worker
from shared import bus
from shared.testing import PATIENCE, Database, broker_url_of, until
from shared.tests.messages import message_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def worker(
    settings: Settings,
    rabbitmq_url: SecretStr,
    stripe_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[None]:
    monkeypatch.setenv("PAYMENTS_STRIPE_API_BASE", stripe_url)
    monkeypatch.setenv("PAYMENTS_STRIPE_API_KEY", API_KEY)
    monkeypatch.setenv("PAYMENTS_STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
    changed = settings.model_dump() | {"rabbitmq_url": broker_url_of("payments", rabbitmq_url)}
    worker = create_worker(Settings.model_validate(changed))
    async with bus.connected(rabbitmq_url, name="test") as broker:
        for name in LISTENERS:
            await bus.declare_queue(await broker.channel(), bus.Queue(name, ()))
    task = asyncio.create_task(worker.run())
    async with asyncio.timeout(PATIENCE):
        while not all([await check() for check in worker.checks().values()]):
            await asyncio.sleep(0.05)
    yield
    task.cancel()
    await asyncio.wait([task])
    gc.collect()  # a connection that it left open is reported here, and not in a later test


async def row_of(database: Database, **wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            for row in await database.rows("SELECT * FROM payment_transactions"):
                if all(row[name] == value for name, value in wanted.items()):
                    return row
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("worker")
async def test_from_the_broker_to_the_books_and_back(
    client: httpx.AsyncClient,
    vouchers: dict[str, str],
    issuer: CardIssuer,
    rabbitmq_url: SecretStr,
    database: Database,
) -> None:
    body = order(payment_token=None)
    event = purchased(body)
    async with bus.connected(rabbitmq_url, name="test") as broker:
        channel = await bus.publishing_channel(broker)
        exchange = await bus.events_exchange(channel)
        heard = await channel.declare_queue(exclusive=True)
        await heard.bind(exchange, "payments.payment.#")
        message = message_of(event)
        for _ in range(2):
            await bus.publish(exchange, event.type, message)
        await row_of(database, voucher_id=body["voucher_id"], status="pending")
        token = await issuer.card("4000002500003155")
        waiting = await charge(client, vouchers, body | {"payment_token": token})
        intent_id = waiting["next_action"]["client_secret"].partition("_secret_")[0]
        intent = succeeded(await issuer.intent(intent_id))
        await deliver(client, intent_event(intent))
        await row_of(database, voucher_id=body["voucher_id"], status="succeeded")
        async with asyncio.timeout(PATIENCE):
            keys = [await _next_key(heard) for _ in range(4)]
    assert keys == [
        "payments.payment.created.v1",
        "payments.payment.processing.v1",
        "payments.payment.requires_action.v1",
        "payments.payment.succeeded.v1",
    ]


async def _next_key(queue: Any) -> str:
    while (message := await queue.get(no_ack=True, fail=False)) is None:
        await asyncio.sleep(0.05)
    return str(message.routing_key)


@pytest.mark.usefixtures("worker")
async def test_what_changed_of_an_organization_comes_from_the_broker(
    rabbitmq_url: SecretStr, database: Database
) -> None:
    event = organization_changed(2, tax_id="PL2")

    async def heard() -> bool:
        rows = await database.rows("SELECT organization_id, version FROM seller_changes")
        return rows == [{"organization_id": ORGANIZATION, "version": 2}]

    async with bus.connected(rabbitmq_url, name="test") as broker:
        channel = await bus.publishing_channel(broker)
        message = message_of(event)
        await bus.publish(await bus.events_exchange(channel), event.type, message)
        await until(heard)
