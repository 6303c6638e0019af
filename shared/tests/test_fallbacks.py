"""Fallback events and intervals of batches: what waits, what ends the wait, what is skipped."""

import time
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from shared import bus
from shared.consumer import Consumer, read_event
from shared.errors import ServiceUnavailable
from shared.events import Event
from shared.fallbacks import FALLBACK_BATCH, Fallback
from shared.testing import Database, until
from shared.tests.messages import QUEUE, event, forget_queues, running, send, waiting
from shared.throttle import BURST
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

LAZY = frozenset({"sample.thing.updated.v1"})


@pytest.fixture
async def queue(channel: AbstractChannel) -> AsyncIterator[AbstractChannel]:
    await forget_queues(channel, QUEUE.name)
    await bus.declare_queue(channel, QUEUE)
    yield channel
    await forget_queues(channel, QUEUE.name)


class Effects:
    """A handler whose effect is a row, and the look at the rows whose effect is there."""

    def __init__(self) -> None:
        self.batches: list[list[int | None]] = []
        self.looks: list[int] = []
        self.looked_at: dict[int | None, float] = {}
        self.begun: list[float] = []
        self.away = 0

    async def handle(self, session: AsyncSession, events: Sequence[Event]) -> None:
        self.begun.append(time.monotonic())
        self.batches.append([one.data.entity_id for one in events])
        for one in events:
            if "poison" in one.data.new_values:
                raise RuntimeError("cannot digest this")
            statement = text("INSERT INTO pairs (id) VALUES (:id)")
            await session.execute(statement, {"id": one.data.entity_id})

    async def find_applied(self, session: AsyncSession, events: Sequence[Event]) -> Collection[str]:
        self.looks.append(len(events))
        self.looked_at |= {one.data.entity_id: time.monotonic() for one in events}
        if self.away:
            self.away -= 1
            raise ServiceUnavailable
        if any("poison" in one.data.new_values for one in events):
            raise ValueError("not readable")
        ids = {one.data.entity_id: one.id for one in events}
        statement = text("SELECT id FROM pairs WHERE id = ANY(:ids)")
        return [ids[row] for row in await session.scalars(statement, {"ids": list(ids)})]

    def consumer(
        self, transactions: Transactions, url: SecretStr, *, linger: float, batch: int = 1
    ) -> Consumer[Event]:
        return Consumer(
            QUEUE,
            self.handle,
            transactions,
            url,
            read=read_event,
            batch=batch,
            fallback=Fallback(LAZY, linger, self.find_applied),
        )


async def _apply_elsewhere(database: Database, ids: Sequence[int]) -> None:
    async with database.admin() as connection:
        await connection.executemany("INSERT INTO pairs (id) VALUES ($1)", [(n,) for n in ids])


async def _inbox_has(database: Database, count: int) -> bool:
    return len(await database.rows("SELECT 1 FROM inbox")) == count


async def _is_drained(channel: AbstractChannel, database: Database, count: int) -> bool:
    return await _inbox_has(database, count) and await waiting(channel, QUEUE.name) == 0


def urgent(entity_id: int, **values: Any) -> Event:
    return event(entity_id, **values).model_copy(update={"type": "sample.thing.closed.v1"})


async def test_what_is_applied_is_skipped_together_and_the_rest_handled_one_by_one(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    await _apply_elsewhere(database, [n for n in range(40) if n % 10])
    await send(queue, *(event(n) for n in range(40)))
    effects = Effects()
    async with running(effects.consumer(transactions, sample_url, linger=0.2)):
        await until(lambda: _is_drained(queue, database, 40))
        assert effects.batches == [[0], [10], [20], [30]]
        assert len(effects.looks) < 40
        await send(queue, event(50))
        await until(lambda: _is_drained(queue, database, 41))
    # Nothing is left unacknowledged, and no message is acknowledged twice, which ends a channel.
    assert await waiting(queue, QUEUE.name) == 0
    assert effects.batches == [[0], [10], [20], [30], [50]]


async def test_a_fallback_waits_for_half_of_its_time_at_least(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    effects = Effects()
    consumer = effects.consumer(transactions, sample_url, linger=1.0)
    async with running(consumer):
        await until(lambda: consumer.working)
        sent_at: dict[int, float] = {}
        for number in range(20):
            sent_at[number] = time.monotonic()
            await send(queue, event(number))
        await until(lambda: _is_drained(queue, database, 20))
    assert all(effects.looked_at[number] - moment >= 0.5 for number, moment in sent_at.items())
    assert len(effects.looks) < 20


async def test_an_event_that_must_be_handled_at_once_ends_the_wait_of_those_before(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    await _apply_elsewhere(database, [2])
    effects = Effects()
    async with running(effects.consumer(transactions, sample_url, linger=600)):
        await send(queue, event(1), event(2), urgent(3), event(4))
        await until(lambda: _inbox_has(database, 3))
        assert effects.batches == [[1], [3]]
        await send(queue, urgent(5))
        await until(lambda: _is_drained(queue, database, 5))
    assert effects.batches == [[1], [3], [4], [5]]


async def test_a_full_batch_does_not_wait(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    ids = list(range(FALLBACK_BATCH))
    await _apply_elsewhere(database, ids)
    effects = Effects()
    async with running(effects.consumer(transactions, sample_url, linger=600)):
        await send(queue, *map(event, ids))
        await until(lambda: _is_drained(queue, database, FALLBACK_BATCH))
    assert (effects.batches, effects.looks) == ([], [FALLBACK_BATCH])


async def test_a_full_batch_is_not_split_by_an_event_behind_it(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    ids = list(range(FALLBACK_BATCH + 50))
    await _apply_elsewhere(database, ids)
    effects = Effects()
    await send(queue, *map(event, ids), urgent(999))
    async with running(effects.consumer(transactions, sample_url, linger=600)):
        await until(lambda: _is_drained(queue, database, len(ids) + 1))
    assert (effects.batches, effects.looks) == ([[999]], [FALLBACK_BATCH, 50])


async def test_what_no_look_can_read_is_found_and_parked(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    await send(queue, event(1), event(2, poison="arsenic"), event(3))

    async def is_parked() -> bool:
        return await waiting(queue, QUEUE.dead) == 1

    effects = Effects()
    async with running(effects.consumer(transactions, sample_url, linger=0.1)):
        await until(is_parked, seconds=60)
        await until(lambda: _is_drained(queue, database, 2))
    rows = await database.rows("SELECT id FROM pairs ORDER BY ordinal")
    assert [row["id"] for row in rows] == [1, 3]


async def test_a_look_waits_during_an_outage(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    await _apply_elsewhere(database, [1, 2])
    effects = Effects()
    effects.away = 2
    await send(queue, event(1), event(2))
    async with running(effects.consumer(transactions, sample_url, linger=0.1)):
        await until(lambda: _is_drained(queue, database, 2))
    assert effects.batches == []


async def test_the_first_batches_begin_at_once_and_the_next_at_intervals(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    effects = Effects()
    consumer = Consumer(
        QUEUE, effects.handle, transactions, sample_url, read=read_event, batch=50, interval=1.0
    )
    async with running(consumer):
        sent_at = time.monotonic()
        for number in range(BURST):
            await send(queue, event(number))
            await until(partial(_inbox_has, database, number + 1))
        for number in range(BURST, BURST + 5):
            await send(queue, event(number))
        await until(lambda: _is_drained(queue, database, BURST + 5))
    assert effects.batches[:BURST] == [[number] for number in range(BURST)]
    # A batch may begin late, never early.
    later = effects.begun[BURST:]
    assert all(moment - sent_at >= 0.99 * place for place, moment in enumerate(later, 1))
    assert effects.begun[BURST - 1] - sent_at < BURST - 1, "a batch waited"
    assert len(later) < 5
