"""The time from the commit of a change to the commit of its audit row, at different loads."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import asyncpg

from deploy.proof.bench.buyers import percentile
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.system_load import RunningSystem, running_system

BUYERS = 16
SUSTAINABLE = 0.8
"""The share of the highest rate that is measured as full load. Above it queues only grow."""
EVENTS_OF_A_PURCHASE = 6
FIFTY = 50 / EVENTS_OF_A_PURCHASE
# An invoice never changes, so its xmin is still the transaction that created it.
_LAGS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(a.xmin) - pg_xact_commit_timestamp(i.xmin))
FROM payments.invoices i
JOIN audit.audit_logs a ON a.entity_type = 'invoice' AND a.entity_id = i.id
    AND a.action = 'CREATE'
WHERE a.created_at >= $1
"""


@asynccontextmanager
async def open_lag(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(running_system(environment))
        if not await _enable_commit_times(system):
            environment.say("restarting the server, so that it records the time of each commit")
            await stack.aclose()
            system = await stack.enter_async_context(running_system(environment))
        await system.load(environment.scale.seconds / 2, buyers=BUYERS)
        peak = await system.load(environment.scale.seconds, buyers=BUYERS)
        peak.require_success()
        await system.wait_until_drained()
        most = peak.per_second * SUSTAINABLE
        loads = {"50 events/s": FIFTY, "a tenth": most / 10, "half": most / 2, "all": most}
        yield {
            name: partial(measure_lag, environment, system, load) for name, load in loads.items()
        }


async def _enable_commit_times(system: RunningSystem) -> bool:
    """Set the server to record commit times at its next start; return whether it does already."""
    connection = await asyncpg.connect(system.database_url)
    try:
        await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        return bool(await connection.fetchval("SHOW track_commit_timestamp") == "on")
    finally:
        await connection.close()


async def measure_lag(environment: BenchEnvironment, system: RunningSystem, load: float) -> Figures:
    began = datetime.now(UTC)
    # A low rate needs more time for enough purchases.
    result = await system.load_at_rate(load, max(environment.scale.seconds, min(20 / load, 20)))
    await system.wait_until_drained()
    result.require_success()
    connection = await asyncpg.connect(system.database_url)
    try:
        lags = [float(row[0]) for row in await connection.fetch(_LAGS, began)]
    finally:
        await connection.close()
    return {
        "purchases_per_second": result.per_second,
        "events_per_second": result.per_second * EVENTS_OF_A_PURCHASE,
        "p50_ms": percentile(lags, 0.50) * 1e3,
        "p99_ms": percentile(lags, 0.99) * 1e3,
        "purchase_p50_ms": result.latency_ms(0.50),
        "purchase_p99_ms": result.latency_ms(0.99),
    }


LAG = Measurement(
    name="lag",
    title="From commit to audit row",
    note="Purchases begin at a steady rate; the lag of each invoice is the difference of the times "
    "at which PostgreSQL committed it and its audit row. All of the sustainable load is 0.8 of "
    "what 16 impatient buyers get; a purchase is 6 events. Everything shares all cores, "
    "also the card gateway's double and the buyers.",
    open_runs=open_lag,
    aims=(
        Aim(
            "commit to audit row at 50 events/s, p50",
            of="50 events/s.p50_ms",
            solid=10,
            ambitious=4,
            at_most=True,
            unit="ms",
        ),
        Aim(
            "commit to audit row at 50 events/s, p99",
            of="50 events/s.p99_ms",
            solid=50,
            ambitious=20,
            at_most=True,
            unit="ms",
        ),
    ),
)
