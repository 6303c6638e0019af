"""The worker with a real broker: an event of payments activates a voucher."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from services.vouchers.app import clients_of
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import settings_of
from services.vouchers.tests.events import event, payment
from services.vouchers.tests.people import People, buy, new_type
from services.vouchers.worker import create_worker, timers_of
from shared import bus
from shared.events import Event
from shared.testing import Database, Tokens, broker_url_of, until
from shared.tests.messages import message_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _publish(rabbitmq_url: SecretStr, *events: Event) -> None:
    async with bus.connected(rabbitmq_url, name="test") as connection:
        channel = await bus.publishing_channel(connection)
        exchange = await bus.events_exchange(channel)
        for sent in events:
            await bus.publish(exchange, sent.type, message_of(sent))


async def test_messages_arrive_once_whatever_is_repeated(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    tokens: Tokens,
    rabbitmq_url: SecretStr,
) -> None:
    kind = await new_type(client, people.owner)
    voucher = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()
    worker = create_worker(settings_of(database, tokens, broker_url_of("vouchers", rabbitmq_url)))
    running = [asyncio.ensure_future(consumer.run()) for consumer in worker.consumers]
    try:
        checks = worker.checks()

        async def consuming() -> bool:
            return all([await check() for check in checks.values()])

        await until(consuming)
        paid = payment("succeeded", voucher["id"])
        named = event("identity.user.updated.v1", 21, 2, name="New Name")
        await _publish(rabbitmq_url, paid, named, paid)

        async def applied() -> bool:
            [row] = await database.rows("SELECT status FROM vouchers")
            [copy] = await database.rows("SELECT name FROM client_copies")
            return (row["status"], copy["name"]) == ("active", "New Name")

        await until(applied)
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=5)
        await worker.close()
    assert len(await database.rows("SELECT 1 FROM voucher_codes")) == 12
    types = [published["type"] for published in await database.events()]
    assert types.count("vouchers.voucher.activated.v1") == 1


async def test_each_run_of_a_timer_has_a_request_id_of_its_own(
    settings: Settings, transactions: Transactions
) -> None:
    request_ids: list[str] = []

    def organizations(request: httpx.Request) -> httpx.Response:
        request_ids.append(request.headers["x-request-id"])
        return httpx.Response(404)

    clients = clients_of(settings, {"organizations": httpx.MockTransport(organizations)})
    timers = {timer.name: timer for timer in timers_of(settings, transactions, clients)}
    for _ in range(2):
        await timers["bootstrap"].run()
    await clients.aclose()
    assert len(set(request_ids)) == 2


async def test_the_worker_knows_its_queues_and_timers(
    database: Database, tokens: Tokens, rabbitmq_url: SecretStr
) -> None:
    worker = create_worker(settings_of(database, tokens, broker_url_of("vouchers", rabbitmq_url)))
    assert {consumer.queue.name for consumer in worker.consumers} == {
        "vouchers.payments",
        "vouchers.organizations",
        "vouchers.clients",
    }
    assert {timer.name for timer in worker.timers} >= {
        "expire_run_out",
        "cancel_unpaid",
        "lapse_holds",
        "give_free_seats",
        "settle_unmarked",
        "learn_organizations",
        "bootstrap",
    }
    for timer in worker.timers:
        if timer.name != "learn_organizations":
            await timer.run()
    await worker.close()
