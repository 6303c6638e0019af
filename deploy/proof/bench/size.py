"""The effect of size: the last page and the first, purchases among many and few vouchers."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.load import LoadRequest, load
from deploy.proof.bench.nginx import upstream
from deploy.proof.bench.programs import Programs, programs
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.vouchers_service import (
    CHARGED,
    VouchersService,
    fill_database,
    running_service,
)

CONNECTIONS = 16
FEW = 10_000
PAGE = 50
FAR = 10_000


@asynccontextmanager
async def open_size(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    tools, many = programs(environment), environment.scale.vouchers
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(upstream(environment, tools, CHARGED))
        services = [
            await stack.enter_async_context(filled_service(environment, others, vouchers))
            for vouchers in (FEW, many)
        ]
        requests = {
            "page 1": services[1].list_vouchers(f"limit={PAGE}"),
            "page 10,000": services[1].list_vouchers(f"limit={PAGE}&cursor={_cursor(many)}"),
        }
        runs = {
            name: partial(_serve, environment, tools, services[1], request)
            for name, request in requests.items()
        }
        for name, service in zip(("few", "many"), services, strict=True):
            runs[f"purchase among {name}"] = partial(
                _serve, environment, tools, service, service.purchase()
            )
        yield runs


@asynccontextmanager
async def filled_service(
    environment: BenchEnvironment, others: str, vouchers: int
) -> AsyncIterator[VouchersService]:
    name = f"bench_vouchers_{vouchers}"
    database = await environment.database("vouchers", name=name)
    environment.say(f"{vouchers:,} vouchers in {name}, created once")
    await fill_database(database, vouchers, codes=1)
    async with running_service(
        environment, database, others, name=f"vouchers-{vouchers}"
    ) as service:
        yield service


def _cursor(vouchers: int) -> str:
    """Return the cursor of page 10,000, or of the last full page if there are fewer."""
    pages = min(FAR, vouchers // PAGE) - 1
    position = json.dumps([vouchers - pages * PAGE]).encode()
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


async def _serve(
    environment: BenchEnvironment, tools: Programs, service: VouchersService, request: LoadRequest
) -> Figures:
    return await load(environment, tools, request, connections=CONNECTIONS, pid=service.pid)


SIZE = Measurement(
    name="size",
    title="Size",
    note="Pages of 50 out of 1,000,000 vouchers of one organization; purchases among 10,000 and "
    "among as many vouchers, or as `--vouchers 10000000` says, each with one code.",
    open_runs=open_size,
    aims=(
        Aim(
            "page 10,000: time, of page 1's",
            of="page 1.per_second",
            against="page 10,000.per_second",
            solid=1.3,
            ambitious=1.1,
            at_most=True,
            unit="×",
        ),
        Aim(
            "purchase among many vouchers: time, of that among 10,000",
            of="purchase among few.per_second",
            against="purchase among many.per_second",
            solid=1.3,
            ambitious=1.1,
            at_most=True,
            unit="×",
        ),
    ),
)
