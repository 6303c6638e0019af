"""The worker over a real broker: its events are published, events of organizations are received."""

import asyncio
import json
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from pydantic import SecretStr

from services.identity.events import LISTENERS
from services.identity.handlers import QUEUES
from services.identity.settings import Settings
from services.identity.tests.conftest import Person
from services.identity.tests.test_handlers import CLOSED, CREATED
from services.identity.worker import create_worker
from shared import bus
from shared.testing import Database, broker_url_of, until
from shared.tests.messages import message_of
from shared.worker import Worker

pytestmark = pytest.mark.anyio

LISTENER = "test.identity"


@pytest.fixture
async def worker(settings: Settings, rabbitmq_url: SecretStr) -> AsyncIterator[Worker]:
    worker = create_worker(
        settings.model_copy(update={"rabbitmq_url": broker_url_of("identity", rabbitmq_url)})
    )
    async with bus.connected(rabbitmq_url, name="test") as broker:
        channel = await bus.publishing_channel(broker)
        listener = await channel.declare_queue(LISTENER)
        await listener.bind(await bus.events_exchange(channel), "identity.#")
        for name in LISTENERS:
            await bus.declare_queue(channel, bus.Queue(name, ()))
    tasks = [asyncio.ensure_future(worker.relay.run())]
    tasks += [asyncio.ensure_future(consumer.run()) for consumer in worker.consumers]
    yield worker
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    async with bus.connected(rabbitmq_url, name="test") as broker:
        channel = await bus.publishing_channel(broker)
        [queue] = QUEUES
        for name in (LISTENER, queue.name, queue.dead, queue.retry):
            await channel.queue_delete(name)
    await worker.transactions.engine.dispose()


async def _organization(database: Database) -> tuple[str, bool] | None:
    rows = await database.rows("SELECT slug, is_active FROM organization_copies")
    return (rows[0]["slug"], rows[0]["is_active"]) if rows else None


async def test_news_arrive_and_events_leave(
    worker: Worker,
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    rabbitmq_url: SecretStr,
) -> None:
    await until(lambda: worker.relay.working and all(c.working for c in worker.consumers))
    async with bus.connected(rabbitmq_url, name="test") as broker:
        channel = await bus.publishing_channel(broker)
        exchange = await bus.events_exchange(channel)
        for event in (CREATED, CREATED, CLOSED, CLOSED):
            await bus.publish(exchange, event.type, message_of(event))

        async def is_heard() -> bool:
            return await _organization(database) == ("praxis", False)

        await until(is_heard)
        await client.post("/api/auth/login", json=owner.credentials)
        listener = await channel.get_queue(LISTENER)
        with anyio.fail_after(60):
            while (message := await listener.get(no_ack=True, fail=False)) is None:
                await anyio.sleep(0.05)
    assert json.loads(message.body)["type"] == "identity.user.logged_in.v1"
