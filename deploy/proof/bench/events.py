"""The path of events: relay, broker and audit trail, each compared with a minimal program."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from deploy.proof.bench.environment import BenchDatabase, BenchEnvironment
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.sample_events import sample_events
from services.audit.handlers import BATCH, QUEUE
from shared import bus

_FILL = """
INSERT INTO outbox (event_id, type, body, created_at)
SELECT *, now() FROM unnest($1::text[], $2::text[], $3::text[])
"""
_AUDIT_TABLES = "audit_logs, inbox, chain_heads, personal_values"


@asynccontextmanager
async def open_events(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    source, target = await environment.database("vouchers"), await environment.database("audit")
    broker = f"{(await environment.servers()).rabbitmq_url}/"
    events = environment.scale.events
    await empty_queue(broker)
    async with target.admin() as admin:
        await admin.execute("SELECT ensure_partition(now())")

    async def copy() -> Figures:
        await _empty_trail(target)
        return await environment.task("copy", {"url": target.admin_url, "events": events})

    async def ingest() -> Figures:
        await _empty_trail(target)
        return await environment.task("ingest", {"url": plain_url(target), "events": events})

    async def publish() -> Figures:
        await empty_queue(broker)
        return await environment.task("publish", {"broker": broker, "events": events})

    async def relay() -> Figures:
        await empty_queue(broker)
        await fill_outbox(source, sample_events(events, service="vouchers"))
        return await environment.task(
            "relay", {"url": plain_url(source), "broker": broker, "events": events}
        )

    async def pipeline() -> Figures:
        await empty_queue(broker)
        await _empty_trail(target)
        await fill_outbox(source, sample_events(events, service="vouchers"))
        urls = {"source": plain_url(source), "target": plain_url(target), "broker": broker}
        return await environment.task("pipeline", {**urls, "events": events})

    yield {
        "COPY": copy,
        "ingestion": ingest,
        "bare publisher": publish,
        "relay": relay,
        "outbox to audit": pipeline,
    }
    await empty_queue(broker)


def plain_url(database: BenchDatabase) -> str:
    """Return the address of a service's database as text, for another process."""
    return database.url.get_secret_value()


async def fill_outbox(database: BenchDatabase, events: Sequence[Mapping[str, object]]) -> None:
    """Insert events into a service's outbox, as if their changes had just been committed."""
    bodies = [json.dumps(event, separators=(",", ":")) for event in events]
    async with database.admin() as admin:
        ids, kinds = [event["id"] for event in events], [event["type"] for event in events]
        await admin.execute(_FILL, ids, kinds, bodies)
        await admin.execute("VACUUM (ANALYZE) outbox")


async def _empty_trail(database: BenchDatabase) -> None:
    async with database.admin() as admin:
        # The triggers allow TRUNCATE only to a superuser in this replication role.
        await admin.execute("SET session_replication_role = replica")
        await admin.execute(f"TRUNCATE {_AUDIT_TABLES}")


async def empty_queue(broker: str) -> None:
    """Declare the audit trail's queue as its consumer does, and empty it."""
    async with bus.connected(broker, name="bench") as connection:
        queue = await bus.declare_queue(await bus.publishing_channel(connection), QUEUE)
        await queue.purge()


EVENTS = Measurement(
    name="events",
    title="Events",
    note="Events like those of purchases by 20 organizations. Ingestion is inbox, chain, personal "
    f"values and rows in batches of {BATCH}; COPY writes the same rows, ready-made, in as large "
    "batches. The bare publisher sends ready-made messages, 500 at once, confirmed by a quorum "
    "queue.",
    open_runs=open_events,
    aims=(
        Aim(
            "audit ingestion: events/s, of COPY",
            of="ingestion.per_second",
            against="COPY.per_second",
            solid=0.50,
            ambitious=0.75,
        ),
        Aim(
            "relay: events/s, of a bare publisher",
            of="relay.per_second",
            against="bare publisher.per_second",
            solid=0.80,
            ambitious=0.95,
        ),
        Aim(
            "outbox to audit on one core",
            of="outbox to audit.per_second",
            solid=2_500,
            ambitious=4_000,
            unit="/s",
        ),
    ),
)
