"""The relay: at once, in order, one at work, and nothing leaves the outbox unconfirmed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from pydantic import SecretStr
from sqlalchemy import select
from yarl import URL

from shared import bus
from shared.changes import record
from shared.outbox_relay import LISTENERS_SECONDS, OutboxRelay
from shared.settings import ServiceSettings
from shared.testing import Database, until
from shared.tests.messages import QUEUE, forget_queues, running, waiting
from shared.tests.sample import NAME, Thing
from shared.throttle import BURST
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

RECEIVED_WITHIN = 30.0


class Receiver:
    """A queue of the test's own, bound when the test wants it."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def bind(self) -> None:
        queue = await self._channel.declare_queue(exclusive=True)
        await queue.bind(await bus.events_exchange(self._channel), "sample.#")
        await queue.consume(self._arrived.put, no_ack=True)

    async def message(self) -> AbstractIncomingMessage:
        async with asyncio.timeout(RECEIVED_WITHIN):
            return await self._arrived.get()

    async def events(self, count: int) -> list[dict[str, Any]]:
        return [json.loads((await self.message()).body) for _ in range(count)]

    def waiting(self) -> int:
        return self._arrived.qsize()


class SilentBroker:
    """Forwards connections to the broker; its answers only while `answers` is set."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._links: set[asyncio.Task[None]] = set()
        self.url = SecretStr("")
        self.answers = asyncio.Event()
        self.answers.set()

    @classmethod
    @asynccontextmanager
    async def of(cls, url: SecretStr) -> AsyncIterator["SilentBroker"]:
        target = URL(url.get_secret_value())
        broker = cls(target)
        async with await asyncio.start_server(broker._accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            broker.url = SecretStr(str(target.with_host("127.0.0.1").with_port(port)))
            yield broker
            broker.cut()

    def cut(self) -> None:
        for link in self._links:
            link.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.ensure_future(self._forward(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._target.host, self._target.port)
        with suppress(OSError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, up_writer))
                group.create_task(self._copy(up_reader, writer, self.answers))
        up_writer.close()
        writer.close()

    async def _copy(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        gate: asyncio.Event | None = None,
    ) -> None:
        while data := await source.read(65536):
            if gate is not None:
                await gate.wait()
            target.write(data)
        target.close()


@pytest.fixture
async def unbound(channel: AbstractChannel) -> Receiver:
    await forget_queues(channel, QUEUE.name, "audit.log")
    return Receiver(channel)


@pytest.fixture
async def receiver(unbound: Receiver) -> Receiver:
    await unbound.bind()
    return unbound


@pytest.fixture
def relay(settings: ServiceSettings, sample_url: SecretStr) -> OutboxRelay:
    return OutboxRelay(NAME, settings.database_url, sample_url)


async def make(transactions: Transactions, name: str) -> None:
    async with transactions.system() as session:
        thing = Thing(name=name, price=Decimal(1))
        session.add(thing)
        record(session, "CREATE", thing)


async def change(transactions: Transactions, name: str, note: str) -> None:
    async with transactions.system() as session:
        found = select(Thing).where(Thing.name == name).with_for_update()
        thing = (await session.scalars(found)).one()
        thing.note = note
        record(session, "UPDATE", thing)


async def test_a_commit_wakes_it_at_once(
    receiver: Receiver,
    database: Database,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    url = settings.database_url
    relay = OutboxRelay(NAME, url, sample_url, poll_seconds=10 * RECEIVED_WITHIN)
    async with running(relay):
        await until(lambda: relay.working)
        for number in range(5):
            await asyncio.sleep(0.1)
            await make(transactions, f"thing {number}")
            await receiver.events(1)
        await until(lambda: _empty(database))


async def test_the_first_events_are_published_at_once_and_the_next_when_a_batch_may_begin(
    receiver: Receiver,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    interval = 2.0
    relay = OutboxRelay(NAME, settings.database_url, sample_url, interval_seconds=interval)

    async with running(relay):
        await until(lambda: relay.working)
        began_at = time.monotonic()
        for number in range(BURST):
            await make(transactions, f"thing {number}")
            await receiver.events(1)
        assert time.monotonic() - began_at < interval * (BURST - 1), "a batch waited"
        for number in range(BURST, BURST + 5):
            await make(transactions, f"thing {number}")
        names = [one["data"]["new_values"]["name"] for one in await receiver.events(5)]
    assert names == [f"thing {number}" for number in range(BURST, BURST + 5)]
    assert time.monotonic() - began_at >= interval


async def test_events_are_published_while_others_wait_for_their_confirmation(
    receiver: Receiver,
    database: Database,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    async with SilentBroker.of(sample_url) as broker:
        relay = OutboxRelay(NAME, settings.database_url, broker.url)
        async with running(relay):
            await until(lambda: relay.working)
            broker.answers.clear()
            for number in range(3):
                await make(transactions, f"thing {number}")
                [event] = await receiver.events(1)
                assert event["data"]["new_values"]["name"] == f"thing {number}"
            assert len(await database.rows("SELECT 1 FROM outbox")) == 3
            broker.answers.set()
            await until(lambda: _empty(database))
    assert receiver.waiting() == 0, "an event was published again"


async def test_events_without_confirmation_are_published_again(
    receiver: Receiver,
    database: Database,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    async with SilentBroker.of(sample_url) as broker:
        relay = OutboxRelay(NAME, settings.database_url, broker.url)
        async with running(relay):
            await until(lambda: relay.working)
            broker.answers.clear()
            for number in range(2):
                await make(transactions, f"thing {number}")
                await receiver.events(1)
            broker.cut()
            broker.answers.set()
            await until(lambda: _empty(database))
        names = [one["data"]["new_values"]["name"] for one in await receiver.events(2)]
    assert names == ["thing 0", "thing 1"]


async def _empty(database: Database) -> bool:
    return not await database.rows("SELECT 1 FROM outbox")


@pytest.mark.parametrize("left_over", [[], [QUEUE.dead]])
async def test_nothing_leaves_before_every_listener_hears(
    left_over: list[str],
    receiver: Receiver,
    channel: AbstractChannel,
    database: Database,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    """The broker confirms what one queue takes: it does not miss the one that is not there yet."""
    for name in left_over:
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    late = OutboxRelay(NAME, settings.database_url, sample_url, listeners=[QUEUE.name])
    await make(transactions, "first")
    async with running(late):
        await asyncio.sleep(3 * LISTENERS_SECONDS)
        assert receiver.waiting() == 0
        assert not await _empty(database)
        await bus.declare_queue(channel, QUEUE)
        await until(lambda: _empty(database))
    # Beside the event waits the relay's question, which a consumer would have dropped.
    assert await waiting(channel, QUEUE.name) == 2
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await (await channel.get_queue(QUEUE.name, ensure=False)).consume(arrived.put, no_ack=True)
    async with asyncio.timeout(RECEIVED_WITHIN):
        taken = [await arrived.get() for _ in range(2)]
    assert [message.exchange for message in taken] == [bus.LISTENERS_EXCHANGE, bus.EXCHANGE]
    assert len(await receiver.events(1)) == 1
    await forget_queues(channel, QUEUE.name)


async def test_messages_are_persistent_and_named_by_their_event(
    receiver: Receiver, database: Database, transactions: Transactions, relay: OutboxRelay
) -> None:
    await make(transactions, "first")
    [waiting_event] = await database.events()
    async with running(relay):
        await until(lambda: _empty(database))
    message = await receiver.message()
    assert message.message_id == waiting_event["id"]
    assert message.routing_key == "sample.thing.created.v1"
    assert message.delivery_mode == 2
    assert json.loads(message.body) == waiting_event


async def test_changes_of_a_row_arrive_in_order_past_writers_and_takeovers(
    receiver: Receiver,
    database: Database,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    names = [f"thing {number}" for number in range(4)]
    for name in names:
        await make(transactions, name)
    relays = [OutboxRelay(f"{NAME} {n}", settings.database_url, sample_url) for n in range(3)]

    async def writer(number: int) -> None:
        for step in range(40):
            await change(transactions, names[step % 4], f"{number}-{step}")

    async with running(*relays) as tasks:
        writing = asyncio.gather(*(writer(number) for number in range(6)))
        for _ in range(2):
            await asyncio.sleep(0.5)
            await until(lambda: _one_works(relays))
            leader = next(i for i, relay in enumerate(relays) if relay.working)
            tasks[leader].cancel()
            await asyncio.wait([tasks[leader]])
        await writing
        await until(lambda: _empty(database))
    versions: dict[int, int] = {}
    seen: set[str] = set()
    while len(seen) < 4 * 61:
        [event] = await receiver.events(1)
        if event["id"] in seen:
            continue
        seen.add(event["id"])
        data = event["data"]
        assert data["entity_version"] == versions.get(data["entity_id"], 0) + 1
        versions[data["entity_id"]] = data["entity_version"]
    assert list(versions.values()) == [61] * 4


async def test_of_two_one_works_and_the_other_takes_over(
    receiver: Receiver,
    database: Database,
    transactions: Transactions,
    settings: ServiceSettings,
    sample_url: SecretStr,
) -> None:
    relays = [OutboxRelay(f"{NAME} {n}", settings.database_url, sample_url) for n in range(2)]
    async with running(*relays) as tasks:
        await until(lambda: _one_works(relays))
        await asyncio.sleep(1.5)
        assert _one_works(relays)
        first = next(i for i, relay in enumerate(relays) if relay.working)
        tasks[first].cancel()
        await make(transactions, "after the first has gone")
        await receiver.events(1)
        assert relays[1 - first].working


def _one_works(relays: list[OutboxRelay]) -> bool:
    return [relay.working for relay in relays].count(True) == 1


async def test_what_no_queue_takes_stays_until_one_does(
    unbound: Receiver, database: Database, transactions: Transactions, relay: OutboxRelay
) -> None:
    await make(transactions, "first")
    await make(transactions, "second")
    async with running(relay):
        await asyncio.sleep(2.5)
        assert len(await database.events()) == 2
        await unbound.bind()
        await until(lambda: _empty(database))
    events = await unbound.events(2)
    subjects = [event["data"]["new_values"]["name"] for event in events]
    assert subjects == ["first", "second"]


async def test_a_lost_database_connection_is_made_again(
    receiver: Receiver, database: Database, transactions: Transactions, relay: OutboxRelay
) -> None:
    async with running(relay):
        await until(lambda: relay.working)
        async with database.admin() as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'sample' AND query ~ 'outbox'"
            )
        await make(transactions, "after the cut")
        await receiver.events(1)


async def test_more_than_a_batch_leaves_in_order(
    receiver: Receiver, database: Database, transactions: Transactions, relay: OutboxRelay
) -> None:
    async with transactions.system() as session:
        for number in range(1200):
            thing = Thing(name=f"thing {number}", price=Decimal(1))
            session.add(thing)
            record(session, "CREATE", thing)
    async with running(relay):
        await until(lambda: _empty(database))
    first_seen: dict[str, None] = {}
    while len(first_seen) < 1200:  # an interrupted relay repeats, but never out of order
        for event in await receiver.events(1):
            first_seen.setdefault(event["data"]["new_values"]["name"])
    assert list(first_seen) == [f"thing {number}" for number in range(1200)]
