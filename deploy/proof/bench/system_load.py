"""The whole system with a client who buys, and a card gateway that is not part of what we measure.

By default that is the double of `card_double.py`; with `local_gateway` it is the local stack's own.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.api_client import CardGateway, Mailbox, Person
from deploy.demo.page import Page
from deploy.demo.story import Story
from deploy.local.card_gateway.program import STATE_FILE
from deploy.local.ports import Ports
from deploy.local.settings import StackSettings
from deploy.local.stack import WEBHOOK_PATH, Stack, running_stack
from deploy.local.system import SERVICES
from deploy.proof.bench.buyers import PATIENCE_SECONDS
from deploy.proof.bench.card_gateways import CardDouble, running_card_double
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.shop import Shop
from services.identity.security.tokens import TOKEN_SECONDS

DRAIN_SECONDS = 300
SETTLE_SECONDS = 1.5
"""Longer than a webhook takes to arrive, which is half a second."""
_ENOUGH = "100000000/10 seconds"
# Processes that are not Carnet's own.
SERVERS = ("postgres", "rabbitmq", "epmd", "card-gateway")
_OUTBOXES = " + ".join(f"(SELECT count(*) FROM {service}.outbox)" for service in SERVICES)  # noqa: S608 - names of our own
_UNFINISHED = f"""
SELECT {_OUTBOXES}
    + (SELECT count(*) FROM payments.webhook_events WHERE next_attempt_at IS NOT NULL)
"""  # noqa: S608
_PROGRESS = """
SELECT (SELECT max(id) FROM audit.audit_logs), (SELECT max(id) FROM payments.webhook_events)
"""
# The metrics of workers, and our names of these figures.
_MESSAGES = {
    "carnet_events_published_total": "published_messages",
    "carnet_messages_total": "delivered_messages",
}


@dataclass
class SignedInClient:
    """A client of the running system, whose token is renewed in time."""

    person: Person
    signed_in_at: float = field(default_factory=time.monotonic)

    async def token(self) -> str:
        """Return a token with at least half of its lifetime left."""
        if time.monotonic() - self.signed_in_at > TOKEN_SECONDS / 2:
            await self.person.sign_in()
            self.signed_in_at = time.monotonic()
        return str(self.person.token)


@dataclass(frozen=True)
class RunningSystem(Shop):
    """A running system; `card_double` is None if it has the local stack's card gateway."""

    stack: Stack
    client: SignedInClient
    card_double: CardDouble | None

    async def token(self) -> str:
        """Return a token of the client."""
        return await self.client.token()

    def pids(self) -> dict[str, int]:
        """Return the process ids of the stack and of the card gateway."""
        cards = {"card-gateway": self.card_double.pid} if self.card_double else {}
        return self.stack.pids() | cards

    async def wait_until_drained(self) -> None:
        """Wait until every webhook is finished and every event is an audit row."""
        connection = await asyncpg.connect(self.database_url)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                progress_before = None
                while True:
                    remaining = await connection.fetchval(_UNFINISHED)
                    progress = await connection.fetchrow(_PROGRESS)
                    if not remaining and progress == progress_before:
                        return
                    progress_before = progress
                    await asyncio.sleep(SETTLE_SECONDS)
        finally:
            await connection.close()

    async def messages(self) -> dict[str, float]:
        """Return the messages that all workers count in their metrics."""
        totals = dict.fromkeys(_MESSAGES.values(), 0.0)
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            for worker in (each for each in self.stack.system.instances if each.port is None):
                url = f"http://127.0.0.1:{worker.operations_port}/metrics"
                for family in text_string_to_metric_families((await client.get(url)).text):
                    for sample in family.samples:
                        if sample.name in _MESSAGES:
                            totals[_MESSAGES[sample.name]] += sample.value
        return totals


@asynccontextmanager
async def running_system(
    environment: BenchEnvironment, instances: int = 1, *, local_gateway: bool = False
) -> AsyncIterator[RunningSystem]:
    """Run the whole system on all cores, with `instances` of the vouchers and payments APIs."""
    settings, double = _stack_settings(environment.folder / "stack", instances), None
    limits = {"GATEWAY_ADDRESS_LIMIT": _ENOUGH, "GATEWAY_USER_LIMIT": _ENOUGH}
    async with AsyncExitStack() as exits:
        exits.enter_context(environment.on_all_cores())
        if not local_gateway:
            webhook_url = f"http://127.0.0.1:{settings.port}{WEBHOOK_PATH}"
            double = await exits.enter_async_context(running_card_double(environment, webhook_url))
            settings = replace(settings, stripe=double.stripe_settings)
        stack = await exits.enter_async_context(
            running_stack(settings, say=environment.say, extra={"gateway": limits})
        )
        api = await exits.enter_async_context(
            httpx.AsyncClient(base_url=stack.address, timeout=PATIENCE_SECONDS)
        )
        story = await _prepare_sale(stack, api)
        yield RunningSystem(
            environment=environment,
            address=stack.address,
            voucher_type_id=int(story.voucher_type["id"]),
            database_url=stack.system.database_url,
            database_log=stack.logs / "postgres.log",
            stack=stack,
            client=SignedInClient(story.client),
            card_double=double,
        )


def _stack_settings(folder: Path, instances: int) -> StackSettings:
    """Return settings with the gateway's port, which the card gateway must know before."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    # Each run begins with empty books.
    for file in folder.glob(f"{STATE_FILE}*"):
        file.unlink()
    return StackSettings(
        data=folder,
        port=Ports(folder / "ports.json").choose("gateway"),
        instances={"vouchers": instances, "payments": instances} if instances > 1 else {},
    )


async def _prepare_sale(stack: Stack, api: httpx.AsyncClient) -> Story:
    """Create an organization with a voucher type and a client who may buy it."""
    async with httpx.AsyncClient(base_url=stack.system.stripe_api_base) as cards:
        admin = Person(api, "Admin", stack.admin_email, stack.admin_password)
        page = Page()
        page.console.quiet = True
        mailbox = Mailbox(stack.mailbox.address if stack.mailbox else "")
        story = Story(api, CardGateway(cards), mailbox, admin, page)
        await story.create_organization()
        await story.create_voucher_type()
        await story.admit_client()
        return story
