"""A million events in the audit queue: are all stored, in constant memory, with metrics?"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from deploy.local.errors import StartError
from deploy.proof.bench.cores import memory_mb
from deploy.proof.bench.environment import BenchDatabase, BenchEnvironment, BenchProcess
from deploy.proof.bench.events import empty_queue, plain_url
from deploy.proof.bench.identities import Issuer
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from shared.broker_access import broker_url

CHUNK = 50_000
SAMPLE_SECONDS = 1.0
STEADY_AFTER = 0.1
"""The share of the events after which memory should no longer grow."""
STALLED_SECONDS = 120
_HANDLED = re.compile(r'carnet_messages_total\{outcome="handled",queue="audit.log"\} (\S+)')
_WAITING = re.compile(r'carnet_queue_waiting_messages\{queue="audit.log"\} (\S+)')


@asynccontextmanager
async def open_soak(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    broker = f"{(await environment.servers()).rabbitmq_url}/"

    async def soak() -> Figures:
        database = await environment.database("audit")
        await empty_queue(broker)
        events = environment.scale.million
        for start in range(0, events, CHUNK):
            await environment.task(
                "publish", {"broker": broker, "events": min(CHUNK, events - start)}
            )
            environment.say(f"{min(start + CHUNK, events):,} events wait")
        return await run_worker(environment, database, broker, events)

    yield {"audit worker": soak}
    await empty_queue(broker)


async def run_worker(
    environment: BenchEnvironment, database: BenchDatabase, broker: str, events: int
) -> dict[str, float]:
    port = environment.ports.choose("audit operations")
    address = f"http://127.0.0.1:{port}"
    values = {
        "DATABASE_URL": plain_url(database),
        "RABBITMQ_URL": broker_url(broker, "audit"),
        "OPERATIONS_PORT": str(port),
        "SEALS": str(environment.folder / "seals"),
    }
    variables = {f"AUDIT_{name}": value for name, value in values.items()}
    async with environment.process(
        "audit-worker",
        (sys.executable, "-m", "services.audit.worker"),
        {**Issuer().settings("AUDIT"), **variables},
        ready=f"{address}/health",
    ) as process:
        figures = await watch_worker(environment, process, f"{address}/metrics", events)
    async with database.admin() as admin:
        rows = await admin.fetchval("SELECT count(*) FROM audit_logs")
    if rows != events:
        raise StartError(f"{rows:,} of {events:,} events became rows.", "Read audit-worker.log.")
    return figures


async def watch_worker(
    environment: BenchEnvironment, process: BenchProcess, metrics: str, events: int
) -> dict[str, float]:
    """Read the metrics until all events are handled. Raises StartError if there is no progress."""
    loop = asyncio.get_running_loop()
    began = last_progress = loop.time()
    total, steady, peak, most_waiting = 0.0, 0.0, 0.0, 0.0
    async with httpx.AsyncClient(timeout=10) as client:
        while total < events:
            await asyncio.sleep(SAMPLE_SECONDS)
            text = (await client.get(metrics)).text
            count, now = _number(_HANDLED, text), loop.time()
            most_waiting = max(most_waiting, _number(_WAITING, text))
            memory = memory_mb(process.pid)
            peak = max(peak, memory)
            if count <= events * STEADY_AFTER:
                steady = max(steady, memory)
            if count > total:
                last_progress = now
            elif now - last_progress > STALLED_SECONDS:
                raise StartError(
                    f"The worker stopped at {count:,.0f} events.", f"Read {process.log}."
                )
            total = count
            environment.say(f"{total:,.0f} of {events:,} events, {memory:.0f} MiB")
    return {
        "per_second": events / (loop.time() - began),
        "memory_mb": steady,
        "peak_memory_mb": peak,
        "memory_growth": peak / steady,
        "waiting_seen": most_waiting / events,
    }


def _number(pattern: re.Pattern[str], text: str) -> float:
    match = pattern.search(text)
    return float(match[1]) if match else 0.0


SOAK = Measurement(
    name="soak",
    title="A million events waiting",
    note="1,000,000 events wait in the quorum queue when the audit worker starts on one core. "
    "Memory is the worker's after the first tenth of them and at its most; progress and what still "
    "waits are read from its metrics, and every event is a row in the end.",
    open_runs=open_soak,
    aims=(
        Aim(
            "a million waiting events: memory, of that after the first tenth",
            of="audit worker.memory_growth",
            solid=1.2,
            ambitious=1.05,
            at_most=True,
            unit="×",
        ),
        Aim(
            "a million waiting events: seen waiting in the metrics",
            of="audit worker.waiting_seen",
            solid=0.5,
            ambitious=0.9,
        ),
    ),
    by_default=False,
)
