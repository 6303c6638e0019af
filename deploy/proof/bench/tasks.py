"""Work that is measured in its own process.

    python -m deploy.proof.bench.tasks NAME ARGUMENTS

It prints its figures as JSON. The harness chooses the core.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg
import uvloop
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from deploy.proof.bench.sample_events import sample_events
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import Draft, read, row_of
from services.audit.handlers import BATCH, QUEUE, handle
from services.audit.service import ingestion
from shared import bus
from shared.broker_access import broker_url
from shared.consumer import Consumer, InboxHandler
from shared.db import make_engine
from shared.events import Event
from shared.outbox_relay import BATCH as RELAY_BATCH
from shared.outbox_relay import OutboxRelay
from shared.publishers import service_in
from shared.settings import asyncpg_url
from shared.transactions import Transactions

Figures = dict[str, float]
POLL_SECONDS = 0.01


@contextmanager
def timed(figures: Figures, events: int) -> Iterator[None]:
    """Measure a block that handles `events` events."""
    began, cpu_before = time.perf_counter(), time.process_time()
    yield
    figures["per_second"] = events / (time.perf_counter() - began)
    figures["cpu_us"] = (time.process_time() - cpu_before) / events * 1e6


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


async def ingest(url: str, events: int) -> Figures:
    """Write events to the audit trail as the consumer does, inbox and chains included."""
    figures: Figures = {}
    engine = make_engine(asyncpg_url(SecretStr(url)))
    transactions = Transactions(engine, "carnet/audit", CATALOGUE)
    bodies = [json.dumps(event).encode() for event in sample_events(events)]
    drafts: asyncio.Queue[Draft] = asyncio.Queue(2 * BATCH)
    # A real consumer never has all events in memory, so garbage collection must skip them here.
    gc.collect()
    gc.freeze()
    with timed(figures, events):
        arriving = asyncio.ensure_future(_deliver(bodies, drafts))
        for size in (len(batch) for batch in _batches(bodies, BATCH)):
            batch = [await drafts.get() for _ in range(size)]
            async with transactions.system(causation=batch[0]) as session:
                await handle.apply(session, QUEUE.name, batch)
        await arriving
    await engine.dispose()
    return figures


async def _deliver(bodies: Sequence[bytes], drafts: asyncio.Queue[Draft]) -> None:
    for body in bodies:
        await drafts.put(read(body))
        # Each message of the broker is one iteration of the event loop.
        await asyncio.sleep(0)


async def copy(url: str, events: int) -> Figures:
    """Write the same rows, prepared before, into the same table with COPY, batch by batch."""
    figures: Figures = {}
    columns = [*ingestion._ROW_COLUMNS]
    connection = await asyncpg.connect(url)
    await connection.execute("SET search_path = audit")
    records = [
        _record(row_of(Event.model_validate(event))[0], columns, position)
        for position, event in enumerate(sample_events(events))
    ]
    with timed(figures, events):
        for batch in _batches(records, BATCH):
            await connection.copy_records_to_table("audit_logs", records=batch, columns=columns)
    await connection.close()
    return figures


def _record(row: Mapping[str, Any], columns: Sequence[str], position: int) -> tuple[Any, ...]:
    values = {
        **{name: json.dumps(row[name]) for name in ("old_values", "new_values", "envelope")},
        "id": position,
        "position": position,
        "previous_hash": bytes(32),
        "hash": bytes(32),
    }
    return tuple(values[name] if name in values else row[name] for name in columns)


async def relay(url: str, broker: str, events: int) -> Figures:
    """Publish the events of an outbox until it is empty."""
    figures: Figures = {}
    connection = await asyncpg.connect(url)
    outbox_relay = OutboxRelay("bench", SecretStr(url), SecretStr(broker_url(broker, "vouchers")))
    with timed(figures, events):
        running = asyncio.ensure_future(outbox_relay.run())
        while await connection.fetchval("SELECT 1 FROM outbox LIMIT 1"):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
    running.cancel()
    await asyncio.wait([running])
    await connection.close()
    return figures


async def publish(broker: str, events: int) -> Figures:
    """Publish the same events, prepared before, with confirmations and nothing else."""
    figures: Figures = {}
    messages = [
        bus.Outgoing(
            event["type"],
            event["id"],
            json.dumps(event, separators=(",", ":")).encode(),
            service_in(event["type"]),
        )
        for event in sample_events(events)
    ]
    with timed(figures, events):
        async with bus.connected(broker, name="bench") as connection:
            channel = await bus.publishing_channel(connection)
            for batch in _batches(messages, RELAY_BATCH):
                failures = [each for each in await bus.publish_all(channel, batch) if each]
                if failures:
                    raise RuntimeError(f"not confirmed: {failures[0]!r}")
    return figures


async def pipeline(source: str, target: str, broker: str, events: int) -> Figures:
    """Pass the events of an outbox to the audit trail: relay and consumer share the core."""
    figures: Figures = {}
    count, all_handled = 0, asyncio.Event()

    async def handle_and_count(
        session: AsyncSession, queue: str, batch: Sequence[Draft]
    ) -> Sequence[Draft]:
        nonlocal count
        new = await handle.apply(session, queue, batch)
        count += len(new)
        if count >= events:
            all_handled.set()
        return new

    engine = make_engine(asyncpg_url(SecretStr(target)))
    transactions = Transactions(engine, "carnet/audit", CATALOGUE)
    outbox_relay = OutboxRelay(
        "bench", SecretStr(source), SecretStr(broker_url(broker, "vouchers"))
    )
    audit_broker = SecretStr(broker_url(broker, "audit"))
    handler = InboxHandler(handle_and_count)
    consumer = Consumer(QUEUE, handler, transactions, audit_broker, batch=BATCH, read=read)
    with timed(figures, events):
        running = [asyncio.ensure_future(each.run()) for each in (consumer, outbox_relay)]
        await all_handled.wait()
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    await engine.dispose()
    return figures


TASKS: Mapping[str, Callable[..., Awaitable[Figures]]] = {
    each.__name__: each for each in (ingest, copy, relay, publish, pipeline)
}


def main() -> None:
    """Run the task that the command line names."""
    name, arguments = sys.argv[1], json.loads(sys.argv[2])

    async def run() -> Figures:
        return await TASKS[name](**arguments)

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
