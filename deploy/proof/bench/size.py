"""What size does: the last page against the first, a purchase among many vouchers or few."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from deploy.proof.bench.ground import Ground
from deploy.proof.bench.load import Request, load
from deploy.proof.bench.nginx import upstream
from deploy.proof.bench.programs import Programs, programs
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.shop import CHARGED, Shop, open_shop, stock

CONNECTIONS = 16
FEW = 10_000
PAGE = 50
FAR = 10_000


@asynccontextmanager
async def _opened(ground: Ground) -> AsyncIterator[Mapping[str, Run]]:
    tools, many = programs(ground), ground.scale.vouchers
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(upstream(ground, tools, CHARGED))
        shops = [
            await stack.enter_async_context(_stocked(ground, others, vouchers))
            for vouchers in (FEW, many)
        ]
        requests = {
            "page 1": shops[1].list_vouchers(f"limit={PAGE}"),
            "page 10,000": shops[1].list_vouchers(f"limit={PAGE}&cursor={_cursor(many)}"),
        }
        runs = {
            name: partial(_serve, ground, tools, shops[1], request)
            for name, request in requests.items()
        }
        for name, shop in zip(("few", "many"), shops, strict=True):
            runs[f"purchase among {name}"] = partial(_serve, ground, tools, shop, shop.purchase())
        yield runs


@asynccontextmanager
async def _stocked(ground: Ground, others: str, vouchers: int) -> AsyncIterator[Shop]:
    name = f"bench_vouchers_{vouchers}"
    database = await ground.database("vouchers", name=name)
    ground.say(f"{vouchers:,} vouchers in {name}, made once")
    await stock(database, vouchers, codes=1)
    async with open_shop(ground, database, others, name=f"vouchers-{vouchers}") as shop:
        yield shop


def _cursor(vouchers: int) -> str:
    """Return the cursor of page 10,000, or of the last full page where there are fewer."""
    pages = min(FAR, vouchers // PAGE) - 1
    position = json.dumps([vouchers - pages * PAGE]).encode()
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


async def _serve(ground: Ground, tools: Programs, shop: Shop, request: Request) -> Figures:
    return await load(ground, tools, request, connections=CONNECTIONS, pid=shop.pid)


SIZE = Measurement(
    name="size",
    title="Size",
    note="Pages of 50 out of 1,000,000 vouchers of one organization; purchases among 10,000 and "
    "among as many vouchers, or as `--vouchers 10000000` says, each with one code.",
    opened=_opened,
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
