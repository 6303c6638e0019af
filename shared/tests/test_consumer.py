"""Consumers: each effect once and in order, the poison message aside, nothing lost."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, MutableMapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aio_pika.abc import AbstractChannel
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from shared import bus, inbox
from shared.consumer import Consumer, one_by_one, read_event
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.events import Event
from shared.failed_messages import ATTEMPTS_HEADER, ERROR_HEADER
from shared.provisioning import in_database
from shared.settings import ServiceSettings
from shared.testing import Database, until
from shared.tests.messages import QUEUE, event, forget_queues, running, send, waiting
from shared.tests.slow_worker import environment_of, start_slow_worker
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


@pytest.fixture
async def queue(channel: AbstractChannel) -> AsyncIterator[AbstractChannel]:
    await forget_queues(channel, QUEUE.name)
    await bus.declare_queue(channel, QUEUE)
    yield channel
    await forget_queues(channel, QUEUE.name)


class Effects:
    """A handler whose effect is a row, so that it is once when the row is there once."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.batches: list[int] = []
        self.away = 0

    async def __call__(self, session: AsyncSession, events: Sequence[Event]) -> None:
        self.batches.append(len(events))
        for one in events:
            self.attempts[one.id] += 1
            await self._apply(session, one)

    async def _apply(self, session: AsyncSession, one: Event) -> None:
        values = one.data.new_values
        if self.away:
            self.away -= 1
            raise ServiceUnavailable
        if "poison" in values and values["poison"] != "healed":
            raise RuntimeError(f"cannot digest {values['poison']}\nand more")
        if "slow" in values:
            await asyncio.sleep(0.05)
        statement = "INSERT INTO pairs (id) VALUES (:id)"
        await session.execute(text(statement), {"id": one.data.entity_id})


def consumer(
    effects: Effects, transactions: Transactions, url: SecretStr, batch: int = 20
) -> Consumer[Event]:
    return Consumer(QUEUE, effects, transactions, url, batch=batch, read=read_event)


async def ids(database: Database) -> list[int]:
    return [row["id"] for row in await database.rows("SELECT id FROM pairs ORDER BY ordinal")]


async def test_effects_come_once_and_in_order(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    events = [event(number) for number in range(100)]
    await send(queue, *(e for e in events for _ in range(3)))
    effects = Effects()
    async with running(consumer(effects, transactions, sample_url)):
        await until(lambda: _drained(queue, database, 100))
        await send(queue, *events[:10])
        await asyncio.sleep(0.3)
    assert await ids(database) == list(range(100))
    assert set(effects.attempts.values()) == {1}
    assert max(effects.batches) > 1
    assert len(await database.rows("SELECT * FROM inbox")) == 100


async def _drained(channel: AbstractChannel, database: Database, count: int) -> bool:
    return len(await ids(database)) >= count and await waiting(channel, QUEUE.name) == 0


def _measured(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"queue": QUEUE.name}) or 0.0


async def test_a_backlog_and_its_progress_are_measured(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    await send(queue, *(event(number) for number in range(100)))
    late = event(100).model_copy(update={"time": now().replace(tzinfo=None) - timedelta(hours=2)})
    await send(queue, late)
    count, seconds = (_measured(f"carnet_handle_lag_seconds_{part}") for part in ("count", "sum"))
    depths: set[float] = set()

    async def nothing_waits() -> bool:
        depths.add(_measured("carnet_queue_waiting_messages"))
        return await _drained(queue, database, 101) and depths >= {0.0, 101.0}

    async with running(consumer(Effects(), transactions, sample_url)):
        await until(nothing_waits, seconds=30)
    assert _measured("carnet_handle_lag_seconds_count") - count == 101
    assert 7200 <= _measured("carnet_handle_lag_seconds_sum") - seconds < 7200 + 101 * 60


async def test_a_poison_message_suffers_alone_and_is_parked(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    poison = event(50, poison="arsenic")
    events = [event(n) if n != 50 else poison for n in range(100)]
    await send(queue, *events)
    effects = Effects()
    async with running(consumer(effects, transactions, sample_url)):
        await until(lambda: _drained(queue, database, 99), seconds=60)
        await until(lambda: _parked(queue), seconds=60)
    assert await ids(database) == [n for n in range(100) if n != 50]
    # With its batch of at most 20, with each half of a half that it was in, and then by itself.
    assert effects.attempts[poison.id] <= bus.MAX_ATTEMPTS * 6
    dead = await (await queue.get_queue(QUEUE.dead)).get(timeout=5)
    assert dead is not None
    await dead.ack()
    assert dead.message_id == poison.id
    assert dead.headers[ATTEMPTS_HEADER] == bus.MAX_ATTEMPTS
    assert dead.headers[ERROR_HEADER] == "RuntimeError: cannot digest arsenic"
    assert dead.headers["x-carnet-type"] == poison.type
    assert len(await database.rows("SELECT * FROM inbox")) == 99


async def _parked(channel: AbstractChannel) -> bool:
    return await waiting(channel, QUEUE.dead) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"id": "1"}', b"[" * 10_000])
async def test_what_is_no_event_is_parked_at_once(
    queue: AbstractChannel,
    database: Database,
    transactions: Transactions,
    sample_url: SecretStr,
    body: bytes,
) -> None:
    exchange = await bus.events_exchange(queue)
    await bus.publish(
        exchange, "sample.noise", bus.persistent_message(body, "noise", user="sample")
    )
    await send(queue, event(1))
    async with running(consumer(Effects(), transactions, sample_url)):
        await until(lambda: _parked(queue), seconds=30)
        await until(lambda: _drained(queue, database, 1), seconds=30)


async def test_an_unknown_type_is_parked_and_blocks_no_message(
    queue: AbstractChannel, transactions: Transactions, sample_url: SecretStr
) -> None:
    handled: list[str] = []

    async def handle(_session: AsyncSession, one: Event) -> None:
        handled.append(one.id)

    known, unknown = event(1), event(2).model_copy(update={"type": "sample.thing.vanished.v9"})
    await send(queue, unknown, known)
    handle_all = one_by_one({known.type: handle})
    async with running(Consumer(QUEUE, handle_all, transactions, sample_url, read=read_event)):
        await until(lambda: _parked(queue), seconds=60)
    assert handled == [known.id]


async def test_what_waits_for_another_service_waits_in_order(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    effects = Effects()
    effects.away = 3
    await send(queue, *(event(n) for n in range(5)))
    async with running(consumer(effects, transactions, sample_url)):
        await until(lambda: _drained(queue, database, 5))
    assert await ids(database) == list(range(5))
    assert await waiting(queue, QUEUE.retry) == 0
    assert await waiting(queue, QUEUE.dead) == 0


async def test_without_its_database_it_waits_and_loses_nothing(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    effects = Effects()
    name = database.admin_url.rpartition("/")[2]
    server = await asyncpg.connect(in_database(database.admin_url, "postgres"))
    try:
        async with running(consumer(effects, transactions, sample_url)):
            await send(queue, *(event(n, slow=True) for n in range(20)))
            await asyncio.sleep(0.3)
            await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
            await send(queue, *(event(n) for n in range(20, 40)))
            await asyncio.sleep(3)
            await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await until(lambda: _drained(queue, database, 40))
    finally:
        await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await server.close()
    assert await ids(database) == list(range(40))
    assert await waiting(queue, QUEUE.dead) == await waiting(queue, QUEUE.retry) == 0


async def test_a_standby_takes_over(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    first, second = Effects(), Effects()
    one, other = (consumer(e, transactions, sample_url) for e in (first, second))
    async with running(one, other) as tasks:
        await send(queue, *(event(n) for n in range(20)))
        await until(lambda: _drained(queue, database, 20))
        active, standby = (first, second) if first.batches else (second, first)
        assert not standby.batches
        tasks[0 if active is first else 1].cancel()
        await send(queue, *(event(n) for n in range(20, 40)))
        await until(lambda: _drained(queue, database, 40))
    assert await ids(database) == list(range(40))


async def test_the_log_states_why_a_queue_became_unusable(
    queue: AbstractChannel, transactions: Transactions, sample_url: SecretStr
) -> None:
    one = consumer(Effects(), transactions, sample_url)

    async def is_working() -> bool:
        return one.working

    async def is_interrupted() -> bool:
        return bool(_interruptions(logged))

    with capture_logs() as logged:
        async with running(one):
            await until(is_working)
            await queue.queue_delete(QUEUE.name)
            await queue.declare_queue(QUEUE.name)  # another process's, of another kind
            await until(is_interrupted, seconds=30)
    assert "PRECONDITION_FAILED" in _interruptions(logged)[0]


def _interruptions(logged: list[MutableMapping[str, Any]]) -> list[str]:
    return [entry["cause"] for entry in logged if entry["event"] == "consumer_interrupted"]


async def test_sigterm_in_a_handler_loses_nothing_and_repeats_nothing(
    queue: AbstractChannel,
    database: Database,
    settings: ServiceSettings,
    transactions: Transactions,
    sample_url: SecretStr,
    tmp_path: Path,
) -> None:
    begun = tmp_path / "begun"
    process = await start_slow_worker(begun, environment_of(settings, sample_url))
    try:
        await send(queue, event(1), event(2))
        await until(lambda: asyncio.to_thread(begun.exists), seconds=90)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert await ids(database) == []
    effects = Effects()
    async with running(consumer(effects, transactions, sample_url)):
        await until(lambda: _drained(queue, database, 2))
    assert sorted(await ids(database)) == [1, 2]


async def test_the_inbox_takes_each_event_once_even_from_two_at_once(
    database: Database, transactions: Transactions
) -> None:
    events = [event(n) for n in range(50)]

    async def take(order: Sequence[Event]) -> list[Event]:
        async with transactions.system() as session:
            taken = await inbox.take(session, QUEUE.name, order)
            await asyncio.sleep(0.05)
            return taken

    taken = await asyncio.gather(*(take(events + events[:5]) for _ in range(5)))
    assert sorted(e.id for batch in taken for e in batch) == sorted(e.id for e in events)
    assert [e.id for batch in taken for e in batch] == [e.id for e in events]
    async with transactions.system() as session:
        assert await inbox.take(session, "another.queue", events[:1]) == events[:1]
        assert await inbox.take(session, QUEUE.name, []) == []


async def test_a_large_batch_with_a_poison_message_is_not_handled_one_by_one(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    events = [event(n, poison="arsenic") if n == 77 else event(n) for n in range(200)]
    await send(queue, *events)
    effects = Effects()
    async with running(consumer(effects, transactions, sample_url, batch=200)):
        await until(lambda: _drained(queue, database, 199), seconds=60)
        await until(lambda: _parked(queue), seconds=60)
    assert await ids(database) == [n for n in range(200) if n != 77]
    assert len(effects.batches) < 60
