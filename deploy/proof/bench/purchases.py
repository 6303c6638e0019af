"""Purchases in the whole system and in a program in one process, with the same card gateway."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from deploy.local.postgres import SUPERUSER
from deploy.proof.bench.buyers import LoadResult
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.one_process_shop import running_one_process
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.shop import Shop
from deploy.proof.bench.statement_counts import StatementCounts, logging_every_statement
from deploy.proof.bench.system_load import SERVERS, running_system

BUYERS = 16
WARM_UP_SECONDS = 3.0
# The services that take part in a purchase. Timers of the others add to the sums.
SELLING = ("vouchers", "payments", "audit")


@asynccontextmanager
async def open_purchases(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    yield {
        "one process": partial(measure_one_process, environment),
        "1 instance": partial(measure_system, environment, in_detail=True),
        "2 instances": partial(measure_system, environment, 2),
        "4 instances": partial(measure_system, environment, 4),
        "local gateway": partial(measure_system, environment, local_gateway=True),
    }


async def measure_system(
    environment: BenchEnvironment,
    instances: int = 1,
    *,
    local_gateway: bool = False,
    in_detail: bool = False,
) -> Figures:
    """Measure the whole system; `in_detail` adds the figures of `measure_details`."""
    async with running_system(environment, instances, local_gateway=local_gateway) as system:
        await system.load(WARM_UP_SECONDS, buyers=BUYERS)
        details = await measure_details(system) if in_detail else {}
        cpu, result = await measure_load(system)
    return {
        **sale_figures(cpu, result),
        **system_figures(cpu),
        **(process_figures(cpu) if in_detail else {}),
        **details,
    }


async def measure_one_process(environment: BenchEnvironment) -> Figures:
    """Measure the program in one process."""
    async with running_one_process(environment) as shop:
        await shop.load(WARM_UP_SECONDS, buyers=BUYERS)
        details = await measure_details(shop)
        cpu, result = await measure_load(shop)
    return {**sale_figures(cpu, result), **details}


async def measure_load(shop: Shop) -> tuple[dict[str, float], LoadResult]:
    """Return the milliseconds of CPU of each process per purchase, and the result of the load."""
    await shop.wait_until_drained()
    before = shop.cpu()
    result = await shop.load(shop.environment.scale.seconds, buyers=BUYERS)
    await shop.wait_until_drained()
    after = shop.cpu()
    result.require_success()
    number = len(result.latencies)
    return {name: (after[name] - before[name]) / number * 1e3 for name in before}, result


async def measure_details(shop: Shop) -> Figures:
    """Return the time of a lonely purchase, and what a purchase of a load causes.

    The statements are logged meanwhile, which is why the load is not timed.
    """
    seconds = shop.environment.scale.seconds
    await shop.wait_until_drained()
    lonely = await shop.load(seconds, buyers=1)
    lonely.require_success()
    await shop.wait_until_drained()
    async with logging_every_statement(shop.database_url):
        offset, messages = shop.database_log.stat().st_size, await shop.messages()
        result = await shop.load(seconds, buyers=BUYERS)
        await shop.wait_until_drained()
        log = shop.database_log.read_bytes()[offset:].decode()
    result.require_success()
    number = len(result.latencies)
    sums = {name: total - messages[name] for name, total in (await shop.messages()).items()}
    return {
        "lonely_p50_ms": lonely.latency_ms(0.50),
        **count_figures(StatementCounts.of(log), number),
        **{name: total / number for name, total in sums.items()},
    }


def sale_figures(cpu: Mapping[str, float], result: LoadResult) -> dict[str, float]:
    """Return the figures of any shop; `cpu` has the milliseconds of each process per purchase."""
    ours = sum(value for name, value in cpu.items() if name not in SERVERS)
    return {
        "per_second": result.per_second,
        "p50_ms": result.latency_ms(0.50),
        "p99_ms": result.latency_ms(0.99),
        "cpu_ms": ours,
        "cpu_with_servers_ms": ours + cpu["postgres"] + cpu.get("rabbitmq", 0.0),
        "postgres_cpu_ms": cpu["postgres"],
        "card_gateway_cpu_ms": cpu["card-gateway"],
        "buyers_cpu_ms": result.cpu_seconds / len(result.latencies) * 1e3,
    }


def system_figures(cpu: Mapping[str, float]) -> dict[str, float]:
    """Return the sums over the processes of a system."""
    everything = sum(value for name, value in cpu.items() if name != "card-gateway")
    return {
        "rabbitmq_cpu_ms": cpu["rabbitmq"],
        "gateway_cpu_ms": cpu["gateway"],
        "apis_cpu_ms": sum(value for name, value in cpu.items() if "-api" in name),
        "workers_cpu_ms": sum(value for name, value in cpu.items() if "-worker" in name),
        "gateway_share": cpu["gateway"] / everything,
    }


def process_figures(cpu: Mapping[str, float]) -> dict[str, float]:
    """Return a figure for each process of a service, as `vouchers_api_cpu_ms`."""
    return {
        f"{name.replace('-', '_')}_cpu_ms": value
        for name, value in cpu.items()
        if name.endswith(("-api", "-worker"))
    }


def count_figures(counts: StatementCounts, purchases: int) -> dict[str, float]:
    """Return the commits and the round trips per purchase, in all and of each selling service."""
    figures: dict[str, float] = {}
    for name, by_role in (("commits", counts.commits), ("round_trips", counts.round_trips)):
        own = {role: number for role, number in by_role.items() if role != SUPERUSER}
        figures[name] = sum(own.values()) / purchases
        figures |= {f"{role}_{name}": own[role] / purchases for role in SELLING if role in own}
    return figures


PURCHASES = Measurement(
    name="purchases",
    title="Purchases end to end",
    note="16 buyers with cards through the gateway, all processes on all cores, with an "
    "Idempotency-Key each. CPU is per purchase, until its last audit row is written. Card gateway "
    "and buyers take their part of the same cores and are reported apart: a double that answers "
    "from memory, or the local stack's own. The program in one process sells the same with one "
    "transaction and without events, audit trail and keys. A lonely purchase is one of a single "
    "buyer.",
    open_runs=open_purchases,
    aims=(
        Aim(
            "purchase: CPU of our processes",
            of="1 instance.cpu_ms",
            solid=25,
            ambitious=10,
            at_most=True,
            unit="ms",
        ),
        Aim(
            "purchase: CPU with PostgreSQL and RabbitMQ",
            of="1 instance.cpu_with_servers_ms",
            solid=40,
            ambitious=16,
            at_most=True,
            unit="ms",
        ),
        Aim(
            "purchases in the whole system",
            of="1 instance.per_second",
            solid=47,
            ambitious=110,
            unit="/s",
        ),
        Aim(
            "purchases/s, of a program in one process",
            of="1 instance.per_second",
            against="one process.per_second",
            solid=0.3,
            ambitious=0.7,
        ),
        Aim(
            "a lonely purchase, p50",
            of="1 instance.lonely_p50_ms",
            solid=40,
            ambitious=20,
            at_most=True,
            unit="ms",
        ),
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
