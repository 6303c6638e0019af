"""Purchases in the whole system, with one, two and four processes of vouchers and payments."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.system_load import SERVERS, percentile, running_system

BUYERS = 16
WARM_UP_SECONDS = 3.0


@asynccontextmanager
async def open_purchases(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    names = {1: "1 instance", 2: "2 instances", 4: "4 instances"}
    yield {name: partial(measure_purchases, environment, number) for number, name in names.items()}


async def measure_purchases(environment: BenchEnvironment, instances: int) -> Figures:
    async with running_system(environment, instances) as system:
        await system.load(WARM_UP_SECONDS, buyers=BUYERS)
        await system.wait_until_drained()
        before = system.cpu()
        result = await system.load(environment.scale.seconds, buyers=BUYERS)
        await system.wait_until_drained()
        after = system.cpu()
    result.require_success()
    cpu = {name: (after[name] - before[name]) / len(result.latencies) * 1e3 for name in before}
    ours = sum(value for name, value in cpu.items() if name not in SERVERS)
    everything = ours + cpu["postgres"] + cpu["rabbitmq"]
    return {
        "per_second": result.per_second,
        "p50_ms": percentile(result.latencies, 0.50) * 1e3,
        "p99_ms": percentile(result.latencies, 0.99) * 1e3,
        "cpu_ms": ours,
        "apis_cpu_ms": sum(value for name, value in cpu.items() if "-api" in name),
        "workers_cpu_ms": sum(value for name, value in cpu.items() if "-worker" in name),
        "gateway_cpu_ms": cpu["gateway"],
        "postgres_cpu_ms": cpu["postgres"],
        "rabbitmq_cpu_ms": cpu["rabbitmq"],
        "gateway_share": cpu["gateway"] / everything,
    }


PURCHASES = Measurement(
    name="purchases",
    title="Purchases end to end",
    note="16 buyers with cards through the gateway, all processes on all cores, with an "
    "Idempotency-Key each. CPU is per purchase, until its last audit row is written; the card "
    "gateway of tests and the buyers take their part of the same cores.",
    open_runs=open_purchases,
    aims=(
        Aim(
            "gateway's share of the CPU of a purchase",
            of="1 instance.gateway_share",
            solid=0.15,
            ambitious=0.08,
            at_most=True,
        ),
        Aim(
            "two instances: CPU of a purchase, of one instance's",
            of="2 instances.cpu_ms",
            against="1 instance.cpu_ms",
            solid=1.1,
            ambitious=1.02,
            at_most=True,
            unit="×",
        ),
    ),
)
