"""The whole system with a buying client, and the load of many purchases."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp
import asyncpg
import httpx

from deploy.api_client import CardGateway, Person
from deploy.demo.page import Page
from deploy.demo.story import Story
from deploy.local.errors import StartError
from deploy.local.settings import StackSettings
from deploy.local.stack import Stack, running_stack
from deploy.local.system import SERVICES
from deploy.proof.bench.cores import cpu_seconds
from deploy.proof.bench.environment import BenchEnvironment

PATIENCE_SECONDS = 30
DRAIN_SECONDS = 300
SETTLE_SECONDS = 1.0
_ENOUGH = "100000000/10 seconds"
# Processes that are not Carnet's own.
SERVERS = ("postgres", "rabbitmq", "epmd", "card-gateway")
_OUTBOXES = " + ".join(f"(SELECT count(*) FROM {service}.outbox)" for service in SERVICES)  # noqa: S608 - names of our own


@dataclass
class LoadResult:
    """The result of some load: the seconds of each purchase, and the number of failures."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def per_second(self) -> float:
        """Purchases per second."""
        return len(self.latencies) / self.seconds

    def require_success(self) -> None:
        """Raise StartError if a purchase failed, or if there was none."""
        if self.refused or not self.latencies:
            raise StartError(
                f"{self.refused} of {self.refused + len(self.latencies)} purchases failed.",
                "Read the logs of the stack in .carnet/bench.",
            )


@dataclass(frozen=True)
class RunningSystem:
    """A running system, and the token of a client who may buy."""

    stack: Stack
    token: str
    voucher_type_id: int

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far by each process of the system."""
        return {name: cpu_seconds([pid]) for name, pid in self.stack.pids().items()}

    async def wait_until_drained(self) -> None:
        """Wait until every event is an audit row."""
        connection = await asyncpg.connect(self.stack.system.database_url)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                rows_before = -1
                while True:
                    waiting = await connection.fetchval(f"SELECT {_OUTBOXES}")
                    rows = await connection.fetchval("SELECT max(id) FROM audit.audit_logs")
                    if not waiting and rows == rows_before:
                        return
                    rows_before = rows
                    await asyncio.sleep(SETTLE_SECONDS)
        finally:
            await connection.close()

    async def load(self, seconds: float, *, buyers: int) -> LoadResult:
        """Let each of the buyers buy repeatedly for some seconds."""
        result = LoadResult()

        async def buy_on(session: aiohttp.ClientSession, until: float) -> None:
            while time.perf_counter() < until:
                await self._buy(session, result)

        async with self._session() as session:
            began = time.perf_counter()
            await asyncio.gather(*(buy_on(session, began + seconds) for _ in range(buyers)))
            result.seconds = time.perf_counter() - began
        return result

    async def load_at_rate(self, per_second: float, seconds: float) -> LoadResult:
        """Begin purchases at a fixed rate, even while earlier ones are not finished."""
        result = LoadResult()
        async with self._session() as session, asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in range(max(1, int(per_second * seconds))):
                await asyncio.sleep(began + number / per_second - time.perf_counter())
                group.create_task(self._buy(session, result))
            result.seconds = time.perf_counter() - began
        return result

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            base_url=self.stack.address,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def _buy(self, session: aiohttp.ClientSession, result: LoadResult) -> None:
        body = {
            "voucher_type_id": self.voucher_type_id,
            "payment_method": "credit_card",
            "payment_token": "pm_card_visa",
        }
        began = time.perf_counter()
        headers = {"Idempotency-Key": str(uuid4())}
        async with session.post("/api/vouchers/purchase", json=body, headers=headers) as answer:
            voucher = await answer.json()
        if answer.status == 201 and voucher["status"] == "active":
            result.latencies.append(time.perf_counter() - began)
        else:
            result.refused += 1


@asynccontextmanager
async def running_system(
    environment: BenchEnvironment, instances: int = 1
) -> AsyncIterator[RunningSystem]:
    """Run the whole system on all cores, with `instances` of the vouchers and payments APIs."""
    many = {"vouchers": instances, "payments": instances} if instances > 1 else {}
    folder = environment.folder / "stack"
    settings = StackSettings(data=folder, port=0, instances=many)
    # The card gateway of tests becomes slower with each payment that it has stored.
    (folder / "card-gateway.pickle").unlink(missing_ok=True)
    limits = {"GATEWAY_ADDRESS_LIMIT": _ENOUGH, "GATEWAY_USER_LIMIT": _ENOUGH}
    with environment.on_all_cores():
        async with running_stack(settings, say=environment.say, extra={"gateway": limits}) as stack:
            yield await _prepare_sale(stack)


async def _prepare_sale(stack: Stack) -> RunningSystem:
    async with (
        httpx.AsyncClient(base_url=stack.address, timeout=PATIENCE_SECONDS) as api,
        httpx.AsyncClient(base_url=stack.system.stripe_api_base) as cards,
    ):
        admin = Person(api, "Admin", stack.admin_email, stack.admin_password)
        page = Page()
        page.console.quiet = True
        story = Story(api, CardGateway(cards), admin, page)
        await story.create_organization()
        await story.create_voucher_type()
        await story.admit_client()
        return RunningSystem(stack, str(story.client.token), int(story.voucher_type["id"]))


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which a part (0 to 1) of the values lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
