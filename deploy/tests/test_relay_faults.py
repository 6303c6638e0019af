"""The relay and the consumer when their broker is killed or frozen under them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local.ports import Ports
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.secret_store import SecretStore
from deploy.local.servers import accounts_for_tests, rabbitmq_of
from deploy.local.supervisor import Supervisor
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import Draft, read
from services.audit.handlers import QUEUE, handle
from shared import bus
from shared.changes import record_fact
from shared.consumer import Consumer
from shared.db import make_engine
from shared.outbox_relay import OutboxRelay
from shared.settings import asyncpg_url
from shared.testing import Database, broker_url_of, service_database, until
from shared.tests.messages import forget_queues, running
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

session_database = service_database("services.audit")

RESUMES_WITHIN = 60.0
WRITTEN_MEANWHILE = 60


@dataclass
class System:
    """An audit service whose broker is the test's to torment."""

    database: Database
    transactions: Transactions
    relay: OutboxRelay
    consumer: Consumer[Draft]
    supervisor: Supervisor

    async def write(self, number: int) -> None:
        """Commit one event; the broker is no part of it."""
        async with self.transactions.system() as session:
            record_fact(session, "READ", "audit_log", details={"how": str(number), "filters": {}})

    async def arrived(self) -> list[int]:
        """Return the numbers that came through outbox, broker and inbox, in their order."""
        rows = await self.database.rows("SELECT new_values FROM audit_logs ORDER BY id")
        return [int(json.loads(row["new_values"])["how"]) for row in rows]

    async def has_all(self, count: int) -> bool:
        return len(await self.arrived()) == count

    async def outbox_is_empty(self) -> bool:
        return await self.waiting() == 0

    async def waiting(self) -> int:
        """Return how many events are in the outbox."""
        return len(await self.database.rows("SELECT 1 FROM outbox"))


def _broker(folder: Path) -> RabbitMQ:
    store = SecretStore(folder / "secrets.json")
    return rabbitmq_of(folder, Ports(folder / "ports.json"), store, print, accounts_for_tests)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def broker(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RabbitMQ, Supervisor]]:
    """A broker that the tests of this module may kill and stop; its start takes seconds."""
    folder = tmp_path_factory.mktemp("broker")
    supervisor = Supervisor(folder, print)
    broker = _broker(folder)
    await broker.start(supervisor)
    yield broker, supervisor
    await supervisor.stop()


@pytest.fixture
async def system(database: Database, broker: tuple[RabbitMQ, Supervisor]) -> AsyncIterator[System]:
    rabbitmq, supervisor = broker
    admin_url, database_url = SecretStr(f"{rabbitmq.url}/"), asyncpg_url(database.url)
    url = broker_url_of("audit", admin_url)
    engine = make_engine(database_url)
    transactions = Transactions(engine, "carnet/audit", CATALOGUE)
    relay = OutboxRelay("audit", database_url, url)
    consumer = Consumer(QUEUE, handle, transactions, url, read=read)
    async with bus.connected(url, name="test") as connection:
        channel = await connection.channel()
        await forget_queues(channel, QUEUE.name)
        await bus.declare_queue(channel, QUEUE)
    async with running(relay, consumer):
        yield System(database, transactions, relay, consumer, supervisor)
    await engine.dispose()


async def test_a_killed_broker_costs_no_event(system: System) -> None:
    for number in range(20):
        await system.write(number)
    await until(lambda: system.has_all(20))
    # RabbitMQ 3.10 loses a quorum queue's vote of its first seconds when it is killed in them, and
    # then never finds a leader for it; queues that exist for longer come back at once.
    await asyncio.sleep(5)
    starts = system.supervisor.starts("rabbitmq")
    system.supervisor.kill("rabbitmq", signal.SIGKILL)
    for number in range(20, 60):
        await system.write(number)
        await asyncio.sleep(0.02)
    await system.supervisor.wait_for_start("rabbitmq", starts + 1)
    await until(lambda: _answers(system), seconds=60)
    await system.write(60)
    await until(lambda: system.has_all(61), seconds=RESUMES_WITHIN)
    assert await system.arrived() == list(range(61))
    await until(system.outbox_is_empty)


async def _answers(system: System) -> bool:
    try:
        async with bus.connected(system.relay.rabbitmq_url, name="test") as connection:
            await bus.events_exchange(await connection.channel())
    except Exception:
        return False
    return True


@pytest.mark.parametrize("seconds", [3.0, 30.0])
async def test_a_frozen_broker_costs_no_event_and_no_commit(system: System, seconds: float) -> None:
    for number in range(20):
        await system.write(number)
    await until(lambda: system.has_all(20))
    await until(system.outbox_is_empty)
    system.supervisor.kill("rabbitmq", signal.SIGSTOP)
    for number in range(20, 20 + WRITTEN_MEANWHILE):
        async with asyncio.timeout(30):  # a commit never waits for the broker
            await system.write(number)
        await asyncio.sleep(seconds / WRITTEN_MEANWHILE)
    assert await system.waiting() == WRITTEN_MEANWHILE
    system.supervisor.kill("rabbitmq", signal.SIGCONT)
    everything = 20 + WRITTEN_MEANWHILE
    await until(lambda: system.has_all(everything), seconds=RESUMES_WITHIN)
    assert await system.arrived() == list(range(everything))
    await until(system.outbox_is_empty)


async def test_a_deleted_queue_is_made_again(system: System) -> None:
    await system.write(0)
    await until(lambda: system.has_all(1))
    async with bus.connected(system.relay.rabbitmq_url, name="test") as connection:
        await (await connection.channel()).queue_delete(QUEUE.name)
    for number in range(1, 10):
        await system.write(number)
    await until(lambda: system.has_all(10))
    assert await system.arrived() == list(range(10))
