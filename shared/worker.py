"""The second root of each service: relay, consumers and timers, until SIGTERM."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
import uvloop

from shared import idempotency, inbox
from shared.bus import user_of
from shared.consumer import Consumer
from shared.failpoints import warn_if_set
from shared.logging import configure_logging
from shared.maintenance import refuse_to_start_once_reachable
from shared.outbox_relay import OutboxRelay
from shared.service import Check, database_check, operations_port
from shared.settings import ServiceSettings
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 10.0
CLEAN_UP_EVERY = 3600.0


@dataclass(frozen=True, slots=True)
class Timer:
    """Work that is due every so many seconds; each run opens its own transactions."""

    name: str
    every: float
    run: Callable[[], Awaitable[None]]

    async def repeat(self) -> None:
        """Run until cancelled; a run that fails is logged, and the next one comes all the same."""
        while True:
            try:
                await self.run()
            except Exception as error:
                log.error("timer_failed", timer=self.name, exc_info=error)
            await asyncio.sleep(self.every)


class Connections(Protocol):
    """What timers and handlers have open to others: Carnet's services, payment gateways."""

    async def aclose(self) -> None:
        """Close them all."""


class Worker:
    """One process of a service's background work."""

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        transactions: Transactions,
        *,
        listeners: Sequence[str],
        consumers: Sequence[Consumer[Any]] = (),
        timers: Sequence[Timer] = (),
        connections: Connections | None = None,
        keep_inbox: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self.transactions = transactions
        self.relay = OutboxRelay(
            name, settings.database_url, settings.rabbitmq_url, listeners=listeners
        )
        self.consumers = consumers
        self.timers = [*timers, Timer("clean_up", CLEAN_UP_EVERY, self._clean_up)]
        self._connections = connections
        self._keep_inbox = keep_inbox

    def checks(self) -> dict[str, Check]:
        """Return what the worker needs: its database, and a consumer on each of its queues."""
        checks: dict[str, Check] = {"database": database_check(self.transactions)}
        for consumer in self.consumers:
            checks[f"queue {consumer.queue.name}"] = _working(consumer)
        return checks

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; what is under way is finished or left to be repeated.

        Raises RuntimeError when one of the tasks ended by itself, and names it: the process must
        not go on as if it worked, whoever supervises it starts it again.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        runs = [("the relay", self.relay.run())]
        runs += [(f"the consumer of {c.queue.name}", c.run()) for c in self.consumers]
        runs += [(f"the timer {timer.name}", timer.repeat()) for timer in self.timers]
        tasks = [asyncio.create_task(run, name=name) for name, run in runs]
        try:
            await _first_of(stop, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)
            await self.close()

    async def close(self) -> None:
        """Close every connection of the timers and handlers."""
        if self._connections is not None:
            await self._connections.aclose()
        await self.transactions.engine.dispose()

    async def _clean_up(self) -> None:
        async with self.transactions.system() as session:
            await idempotency.delete_expired(session)
            if not self._keep_inbox:
                await inbox.forget_older_than(session, inbox.REMEMBERED)


async def _first_of(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    asked = asyncio.ensure_future(stop.wait())
    try:
        awaited: list[asyncio.Future[Any]] = [asked, *tasks]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            ended = next(task for task in tasks if task.done())
            cause = None if ended.cancelled() else ended.exception()
            raise RuntimeError(f"{ended.get_name()} ended by itself") from cause
    finally:
        asked.cancel()


def _working(consumer: Consumer[Any]) -> Check:
    async def check() -> bool:
        return consumer.working

    return check


def _require_own_user(worker: Worker) -> None:
    if (user := user_of(worker.settings.rabbitmq_url)) != worker.name:
        raise SystemExit(
            f"{worker.name.upper()}_RABBITMQ_URL signs in as '{user}'. It must be the broker's user"
            f" '{worker.name}': consumers would park this service's events as forged."
        )


def start(worker: Worker) -> None:
    """Run a worker as this process.

    Raises SystemExit when it would sign in to the broker as anybody else, and while a notice of
    maintenance stands in its service's schema.
    """
    settings = worker.settings
    _require_own_user(worker)
    configure_logging(f"{worker.name}-worker", level=settings.log_level, style=settings.log_format)
    warn_if_set()

    async def run() -> None:
        async with operations_port(settings, worker.checks()):
            await refuse_to_start_once_reachable(worker.transactions.engine)
            await worker.run()

    uvloop.run(run())
