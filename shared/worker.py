"""The worker process of each service: relay, consumers and timers, until SIGTERM."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog
import uvloop

from shared import idempotency, inbox
from shared.bus import user_of
from shared.consumer import Consumer
from shared.failpoints import warn_if_set
from shared.logging import configure_logging
from shared.mail.sender import MailSender
from shared.maintenance import refuse_to_start_once_reachable
from shared.outbox_relay import OutboxRelay
from shared.service import ReadinessCheck, database_check, operations_port
from shared.settings import ServiceSettings
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 10.0
CLEAN_UP_EVERY = 3600.0


@dataclass(frozen=True, slots=True)
class Timer:
    """A job that runs every `every` seconds; each run opens its own transactions."""

    name: str
    every: float
    run: Callable[[], Awaitable[None]]

    async def repeat(self) -> None:
        """Run until cancelled. A run that fails is logged, and the next one takes place."""
        while True:
            try:
                await self.run()
            except Exception as error:
                log.error("timer_failed", timer=self.name, exc_info=error)
            await asyncio.sleep(self.every)


class Connections(Protocol):
    """The connections of timers and handlers to other services and payment gateways."""

    async def aclose(self) -> None:
        """Close them all."""


class Worker:
    """The background work of a service, in one process."""

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
        mails: MailSender | None = None,
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
        self.mails = mails
        self._connections = connections
        self._keep_inbox = keep_inbox

    def checks(self) -> dict[str, ReadinessCheck]:
        """Return the readiness checks: the database, and a consumer on each queue."""
        checks: dict[str, ReadinessCheck] = {"database": database_check(self.transactions)}
        for consumer in self.consumers:
            checks[f"queue {consumer.queue.name}"] = partial(is_working, consumer)
        return checks

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; unfinished work is repeated after the next start.

        Raises RuntimeError with the name of a task that ended by itself: the process must end, so
        that its supervisor starts it again.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        runs = [("the relay", self.relay.run())]
        runs += [(f"the consumer of {c.queue.name}", c.run()) for c in self.consumers]
        if self.mails is not None:
            runs.append(("the sender of mail", self.mails.run()))
        runs += [(f"the timer {timer.name}", timer.repeat()) for timer in self.timers]
        tasks = [asyncio.create_task(run, name=name) for name, run in runs]
        try:
            await wait_for_first(stop, tasks)
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
                await inbox.delete_expired(session)


async def wait_for_first(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the event. Raises RuntimeError if a task ends before."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        futures: list[asyncio.Future[Any]] = [stopping, *tasks]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            ended = next(task for task in tasks if task.done())
            cause = None if ended.cancelled() else ended.exception()
            raise RuntimeError(f"{ended.get_name()} ended by itself") from cause
    finally:
        stopping.cancel()


async def is_working(consumer: Consumer[Any]) -> bool:
    """Return whether a consumer receives messages."""
    return consumer.working


def require_own_user(worker: Worker) -> None:
    """Raise SystemExit unless the worker signs in to the broker as its service's user."""
    if (user := user_of(worker.settings.rabbitmq_url)) != worker.name:
        raise SystemExit(
            f"{worker.name.upper()}_RABBITMQ_URL signs in as '{user}'. It must be the broker's user"
            f" '{worker.name}': consumers would park this service's events as forged."
        )


def start(worker: Worker) -> None:
    """Run a worker as this process.

    Raises SystemExit if it would sign in to the broker as another user, and while its service's
    schema has a maintenance notice.
    """
    settings = worker.settings
    require_own_user(worker)
    configure_logging(f"{worker.name}-worker", level=settings.log_level, style=settings.log_format)
    warn_if_set()

    async def run() -> None:
        async with operations_port(settings, worker.checks()):
            await refuse_to_start_once_reachable(worker.transactions.engine)
            await worker.run()

    uvloop.run(run())
