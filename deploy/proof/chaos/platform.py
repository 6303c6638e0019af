"""The system under test: two processes of each kind, on two hosts, with proxies to the servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
from aio_pika.abc import AbstractChannel

from deploy.api_client import CardGateway
from deploy.checks.event_shapes.consumers import all_readers, matches
from deploy.local.settings import StackSettings
from deploy.local.stack import Stack, running_stack
from deploy.local.system import SERVICES, System
from deploy.proof.chaos.proxy import Proxy
from deploy.proof.chaos.second_host import Network, NoNamespaces, own_network
from shared.bus import EXCHANGE, Queue, connected
from shared.failpoints import LOG

INSTANCES = dict.fromkeys(SERVICES, 2)
RECONCILE_AFTER_SECONDS = 15
ANSWERS_WITHIN = 20.0
BOOKS_WITHIN = 180.0
LOCKED_WITHIN = "5s"


@dataclass
class Platform:
    """A running system, its clients and proxies, and its administrator's queries."""

    stack: Stack
    database: Proxy
    broker: Proxy
    network: Network | None
    second_host: str
    """A description of the second host, or the reason why there is none."""
    points: Path
    api: httpx.AsyncClient
    cards: CardGateway
    bank: httpx.AsyncClient

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Return rows as the database's administrator, without proxies and policies."""
        connection = await asyncpg.connect(self.stack.system.database_url, timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Open a channel to the broker itself. Raises OSError, AMQPError or TimeoutError."""
        # Test the port first, because aio_pika logs a refused connection at length.
        _, writer = await asyncio.open_connection("127.0.0.1", self.broker.target)
        writer.close()
        async with connected(self.stack.system.rabbitmq_url, name="chaos") as connection:
            yield await connection.channel()

    async def waiting_messages(self) -> dict[str, int]:
        """Return the number of messages in each queue, retry queues and dead letters included."""
        async with self.channel() as channel:
            counts = {}
            for queue in consumed_queues():
                for name in (queue.name, queue.retry, queue.dead):
                    declaration = await channel.declare_queue(name, passive=True)
                    counts[name] = declaration.declaration_result.message_count or 0
            return counts

    async def waiting_events(self) -> dict[str, int]:
        """Return the number of unpublished events of each service."""
        counts = {}
        for name in SERVICES:
            [row] = await self.rows(f"SELECT count(*) AS n FROM {name}.outbox")  # noqa: S608
            counts[name] = row["n"]
        return counts

    async def is_at_rest(self) -> bool:
        """Return whether all outboxes and queues are empty."""
        if any((await self.waiting_events()).values()):
            return False
        return not any((await self.waiting_messages()).values())

    async def bindings_of(self, queue: Queue) -> set[str]:
        """Return the event types that are bound to a queue, as the broker lists them."""
        broker, supervisor = self.stack.rabbitmq, self.stack.supervisor
        assert broker is not None, "the broker is the run's own"
        columns = ("source_name", "destination_name", "routing_key")
        if await broker.control(supervisor, "list_bindings", "--quiet", *columns):
            return set()
        lines = supervisor.log_of("rabbitmqctl").read_text().splitlines()
        rows = [line.split("\t") for line in lines]
        return {row[2] for row in rows if row[:2] == [EXCHANGE, queue.name]}

    @asynccontextmanager
    async def outboxes_closed(self) -> AsyncIterator[None]:
        """Prevent all transactions, of requests, timers and consumers, from writing events.

        Raises asyncpg.PostgresError if running transactions do not end.
        """
        connection = await asyncpg.connect(self.stack.system.database_url, timeout=10)
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCKED_WITHIN}'")
                tables = ", ".join(f"{name}.outbox" for name in SERVICES)
                await connection.execute(f"LOCK TABLE {tables} IN SHARE MODE")
                yield
        finally:
            await connection.close()

    def passed_points(self) -> set[str]:
        """Return the fail points that any process has passed."""
        return self._points("passed")

    def killed_points(self) -> set[str]:
        """Return the fail points at which a process was killed."""
        return self._points("killed")

    def deaths(self) -> int:
        """Return the number of processes that were killed at fail points."""
        return sum(line.startswith("killed ") for line in self._lines())

    def _points(self, word: str) -> set[str]:
        return {line[len(word) + 1 :] for line in self._lines() if line.startswith(f"{word} ")}

    def _lines(self) -> list[str]:
        return self.points.read_text().splitlines() if self.points.exists() else []


def consumed_queues() -> list[Queue]:
    """Return the durable queue of every consumer."""
    readers = [reader for reader in all_readers() if reader.is_durable]
    return [Queue(reader.name, reader.bindings) for reader in readers]


@asynccontextmanager
async def running_platform(folder: Path, say: Callable[[str], None]) -> AsyncIterator[Platform]:
    """Start a system in a new folder, and stop it at the end.

    Raises StartError.
    """
    points = folder / "failpoints.log"
    settings = StackSettings(data=folder, port=0, instances=INSTANCES)
    async with AsyncExitStack() as contexts:
        network, second_host = await _create_network(contexts, folder, say)
        database, broker, cards, mail = [
            await contexts.enter_async_context(
                Proxy().running(network.listener() if network else None)
            )
            for _ in range(4)
        ]

        def arrange(system: System) -> System:
            extra = _environments(system, database, broker, cards, mail, points)
            system = replace(system, extra=extra)
            return network.move(system) if network else system

        stack = await contexts.enter_async_context(
            running_stack(settings, say=say, arrange=arrange)
        )
        api = await contexts.enter_async_context(
            httpx.AsyncClient(base_url=stack.address, timeout=ANSWERS_WITHIN)
        )
        bank = await contexts.enter_async_context(
            httpx.AsyncClient(
                base_url=stack.system.stripe_api_base,
                timeout=BOOKS_WITHIN,
                auth=(stack.system.stripe_api_key, ""),
            )
        )
        yield Platform(
            stack, database, broker, network, second_host, points, api, CardGateway(bank), bank
        )


async def _create_network(
    contexts: AsyncExitStack, folder: Path, say: Callable[[str], None]
) -> tuple[Network | None, str]:
    """Create a second host if the machine allows it; return it and its description."""
    log = folder / "logs" / "second-host.log"
    try:
        network = await contexts.enter_async_context(own_network(log, say))
    except NoNamespaces as reason:
        return None, f"no second host, as this machine cannot create one ({reason}): proxies drop"
    return network, "the second process of each kind is on a second host, a network namespace"


def _environments(
    system: System, database: Proxy, broker: Proxy, cards: Proxy, mail: Proxy, points: Path
) -> dict[str, Mapping[str, str]]:
    """Connect the proxies to the servers; return the environment of processes that use them."""
    database.target, broker.target = _port(system.database_url), _port(system.rabbitmq_url)
    cards.target = _port(system.stripe_api_base)
    mail.target = _port(system.mail_server.smtp_url)
    broker_urls = {user: _through(url, broker) for user, url in system.broker_urls.items()}
    environments: dict[str, dict[str, str]] = {
        name: {
            f"{name.upper()}_DATABASE_URL": _through(system.role_url(name), database),
            f"{name.upper()}_RABBITMQ_URL": broker_urls[name],
            LOG: str(points),
        }
        for name in SERVICES
    }
    # The shortest safe time; the default is half a minute.
    environments["payments"]["PAYMENTS_RECONCILE_AFTER_SECONDS"] = str(RECONCILE_AFTER_SECONDS)
    for name in system.mail_secrets:
        smtp_url = _through(system.mail_server.smtp_url, mail)
        environments[name][f"{name.upper()}_SMTP_URL"] = smtp_url
    for name in ("payments", "vouchers"):
        environments[name]["PAYMENTS_ACCOUNTS"] = "organization"
    environments["payments"]["PAYMENTS_STRIPE_API_BASE"] = _through(system.stripe_api_base, cards)
    return {**environments, "gateway": {"GATEWAY_RABBITMQ_URL": broker_urls["gateway"]}}


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, "the servers are our own"
    return port


def _through(url: str, proxy: Proxy) -> str:
    return url.replace(f"127.0.0.1:{_port(url)}", proxy.address)


Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
"""Returns the rows of a query with its arguments."""


async def untaken_events(rows: Rows) -> list[object]:
    """Return events that a consumer's queue must receive and that are missing in its inbox.

    They include events that a consumer has received and not handled, which are not in the broker's
    count of messages.
    """
    types = [row["type"] for row in await rows("SELECT DISTINCT type FROM chaos.recorded")]
    missing: list[object] = []
    for queue in consumed_queues():
        service = queue.name.partition(".")[0]
        bound_types = [t for t in types if any(matches(binding, t) for binding in queue.bindings)]
        missing += await rows(
            "SELECT r.event_id, r.type, $1::text AS queue FROM chaos.recorded r"  # noqa: S608
            f" LEFT JOIN {service}.inbox i ON i.event_id = r.event_id AND i.queue = $1"
            " WHERE r.type = ANY($2::text[]) AND i.event_id IS NULL",
            queue.name,
            bound_types,
        )
    return missing
