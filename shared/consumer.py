"""Consumers: take events from a queue, each effect once, in order; park what cannot be handled."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from pydantic import SecretStr, ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from shared import bus, inbox
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.events import Event
from shared.failpoints import passed
from shared.outages import is_outage
from shared.telemetry import HANDLE_LAG, HANDLED, WAITING
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

Handler = Callable[[AsyncSession, Event], Awaitable[None]]
BatchHandler = Callable[[AsyncSession, Sequence[Event]], Awaitable[None]]

RESTART_SECONDS = 1.0
PAUSE_SECONDS = 1.0
SETUP_SECONDS = 5.0
CHECK_SECONDS = 5.0
ATTEMPTS_HEADER = "x-carnet-attempts"
ERROR_HEADER = "x-carnet-error"
TYPE_HEADER = "x-carnet-type"


def one_by_one(handlers: Mapping[str, Handler]) -> BatchHandler:
    """Return a batch handler that gives each event to the handler of its type.

    Every event changes the session's origin: what it causes is the system's, in its name.
    """

    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            Transactions.caused_by(session, event)
            await handlers[event.type](session, event)

    return handle


class Consumer:
    """Takes one queue's messages; of several instances one is active at a time (the broker sees
    to it), because order within an entity matters and a standby takes over in a second."""

    def __init__(
        self,
        queue: bus.Queue,
        handle: BatchHandler,
        transactions: Transactions,
        rabbitmq_url: SecretStr,
        *,
        batch: int = 50,
    ) -> None:
        self.queue = queue
        self.handle = handle
        self.transactions = transactions
        self.rabbitmq_url = rabbitmq_url
        self.batch = batch
        self.working = False
        self._arrived: asyncio.Queue[AbstractIncomingMessage]

    async def run(self) -> None:
        """Consume until cancelled; whatever breaks, start over after a moment."""
        while True:
            try:
                async with bus.connected(self.rabbitmq_url, name=self.queue.name) as broker:
                    await self._consume(await bus.publishing_channel(broker))
            except (Exception, asyncio.CancelledError) as error:
                bus.raise_if_cancelled(error)
                log.warning("consumer_interrupted", queue=self.queue.name, cause=repr(error))
            finally:
                self.working = False
            await asyncio.sleep(RESTART_SECONDS)

    async def _consume(self, channel: AbstractChannel) -> None:
        # A queue whose leader has just died answers nothing at all.
        async with asyncio.timeout(SETUP_SECONDS):
            await channel.set_qos(prefetch_count=2 * self.batch)
            declared = await self._declare(channel)
            self._arrived = asyncio.Queue()
            await declared.consume(self._arrived.put)
        gone = asyncio.ensure_future(self._gone(channel))
        self.working = True
        try:
            while not gone.done():
                await self._next_batch(channel, gone)
        finally:
            gone.cancel()
        raise ConnectionError("the channel or the queue is gone")

    async def _declare(self, channel: AbstractChannel) -> AbstractQueue:
        declared = await bus.declare_queue(channel, self.queue)
        WAITING.labels(self.queue.name).set(declared.declaration_result.message_count or 0)
        return declared

    async def _gone(self, channel: AbstractChannel) -> None:
        """Return when the channel has closed or the queue no longer knows a consumer.

        Nobody tells us when somebody deletes the queue or a binding: both are made again here.
        """
        closed = asyncio.ensure_future(channel.closed())
        try:
            while not closed.done():
                await asyncio.wait({closed}, timeout=CHECK_SECONDS)
                async with asyncio.timeout(SETUP_SECONDS):
                    declared = await self._declare(channel)
                if not declared.declaration_result.consumer_count:
                    return
        finally:
            closed.cancel()

    async def _next_batch(self, channel: AbstractChannel, gone: asyncio.Future[Any]) -> None:
        first = asyncio.ensure_future(self._arrived.get())
        try:
            await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not first.done():
                first.cancel()
        if not first.done() or first.cancelled():
            return
        messages = [first.result()]
        while len(messages) < self.batch and not self._arrived.empty():
            messages.append(self._arrived.get_nowait())
        passed("consumer.received")
        await self._handle_batch(channel, messages)

    async def _handle_batch(
        self, channel: AbstractChannel, messages: list[AbstractIncomingMessage]
    ) -> None:
        """Handle together; when that fails, in halves, until the culprit is alone and suffers.

        One at a time would be as good for a small batch, and a minute's work for a large one.
        """
        try:
            await self._apply_when_possible(channel, messages)
        except Exception as error:
            if channel.is_closed:
                raise
            if len(messages) == 1:
                await self._failed(channel, messages[0], error)
                return
            middle = len(messages) // 2
            await self._handle_batch(channel, messages[:middle])
            await self._handle_batch(channel, messages[middle:])
        else:
            passed("consumer.before_ack")
            # All that came before them has had its answer: batches are handled in order.
            await messages[-1].ack(multiple=True)
            passed("consumer.acked")

    async def _apply_when_possible(
        self, channel: AbstractChannel, messages: Sequence[AbstractIncomingMessage]
    ) -> None:
        """Apply, waiting out what is not the messages' fault.

        They stay ours meanwhile: the broker counts what we give back as a delivery that failed,
        and would park healthy messages after some minutes without a database.
        """
        while True:
            try:
                await self._apply(messages)
            except Exception as error:
                if not is_passing(error) or channel.is_closed:
                    raise
                log.warning("consumer_waits", queue=self.queue.name, cause=repr(error))
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _apply(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        events = [Event.model_validate_json(message.body) for message in messages]
        async with self.transactions.system(causation=events[0]) as session:
            new = await inbox.take(session, self.queue.name, events)
            if new:
                await self.handle(session, new)
                passed("consumer.effect")
        self._measure(new)
        HANDLED.labels(self.queue.name, "handled").inc(len(new))
        HANDLED.labels(self.queue.name, "duplicate").inc(len(events) - len(new))

    def _measure(self, handled: Sequence[Event]) -> None:
        moment, lag = now(), HANDLE_LAG.labels(self.queue.name)
        for event in handled:
            # Not every publisher names a zone; ours all mean UTC.
            told = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
            lag.observe((moment - told).total_seconds())

    async def _failed(
        self, channel: AbstractChannel, message: AbstractIncomingMessage, error: Exception
    ) -> None:
        """Count the attempt; let the message wait for the next one, or park it in the end."""
        attempts = int(str(message.headers.get(ATTEMPTS_HEADER, 0))) + 1
        hopeless = attempts >= bus.MAX_ATTEMPTS or isinstance(error, ValidationError)
        outcome, target = ("parked", self.queue.dead) if hopeless else ("retried", self.queue.retry)
        log.error(
            f"message_{outcome}",
            queue=self.queue.name,
            event_id=message.message_id,
            attempts=attempts,
            exc_info=error,
        )
        headers = {ATTEMPTS_HEADER: attempts, ERROR_HEADER: _said_of(error)}
        copy = bus.persistent(message.body, message.message_id or "", headers)
        copy.headers[TYPE_HEADER] = message.headers.get(TYPE_HEADER, message.routing_key)
        await bus.publish(channel.default_exchange, target, copy)
        await message.ack()
        HANDLED.labels(self.queue.name, outcome).inc()


def _said_of(error: Exception) -> str:
    """Return an error in a line for whoever looks at the parked message."""
    # The driver's own words: SQLAlchemy's would repeat every parameter of the statement.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    line = next(iter(str(cause).splitlines()), "")
    return f"{type(error).__name__}: {line}"[:300]


def is_passing(error: BaseException) -> bool:
    """Say whether the fault lies with the surroundings: database, broker or another service."""
    return isinstance(error, ServiceUnavailable) or is_outage(error)
