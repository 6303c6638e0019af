"""Consumers: take events from a queue, each effect once, in order; park what cannot be handled."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Generic, cast

import structlog
from aio_pika.abc import AbstractChannel, AbstractQueue
from aiormq.abc import DeliveredMessage
from pydantic import SecretStr, ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from shared import bus, inbox
from shared.bus import Queue
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.events import AnEvent, Event
from shared.failpoints import failpoint
from shared.outages import is_outage
from shared.publishers import (
    PUBLISHER_HEADER,
    TYPE_HEADER,
    ForgedMessage,
    publisher_of,
    require_publisher,
)
from shared.telemetry import FORGED, HANDLE_LAG, HANDLED, WAITING
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

Handler = Callable[[AsyncSession, Event], Awaitable[None]]
BatchHandler = Callable[[AsyncSession, Sequence[AnEvent]], Awaitable[None]]
Reader = Callable[[bytes], AnEvent]
Queues = Mapping[Queue, Mapping[str, Handler]]
"""The queues of a service, each with the handler of every event type that is bound to it."""

RESTART_SECONDS = 1.0
PAUSE_SECONDS = 1.0
SETUP_SECONDS = 5.0
CHECK_SECONDS = 5.0
BATCH = 50
"""How many events share a transaction at most."""

ATTEMPTS_HEADER = "x-carnet-attempts"
ERROR_HEADER = "x-carnet-error"


def read_event(body: bytes) -> Event:
    """Return a message's event. Raises ValidationError when there is none."""
    return Event.model_validate_json(body)


def one_by_one(handlers: Mapping[str, Handler]) -> BatchHandler[Event]:
    """Return a batch handler that gives each event to the handler of its type.

    Every event changes the session's origin: what it causes is the system's, in its name.
    """

    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            Transactions.caused_by(session, event)
            await handlers[event.type](session, event)

    return handle


@dataclass(frozen=True, slots=True)
class Arrival(Generic[AnEvent]):
    """A message, and the event in it or why there is none."""

    message: DeliveredMessage
    content: AnEvent | Exception

    @property
    def user(self) -> str | None:
        """The broker's user who published it; None when it does not say."""
        return self.message.header.properties.user_id

    @property
    def headers(self) -> Mapping[str, Any]:
        """What whoever published it said beside the event."""
        return self.message.header.properties.headers or {}

    @property
    def event(self) -> AnEvent:
        """The event. Raises what reading it raised."""
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Consumer(Generic[AnEvent]):
    """Takes one queue's messages; of several instances one is active at a time (the broker sees
    to it), because order within an entity matters and a standby takes over in a second.

    `read` makes of a message what `handle` takes, while the batch before is still being written.
    """

    def __init__(
        self,
        queue: Queue,
        handle: BatchHandler[AnEvent],
        transactions: Transactions,
        rabbitmq_url: SecretStr,
        *,
        read: Reader[AnEvent],
        batch: int = BATCH,
    ) -> None:
        self.queue = queue
        self.handle = handle
        self.transactions = transactions
        self.rabbitmq_url = rabbitmq_url
        self.user = bus.user_of(rabbitmq_url)
        self.batch = batch
        self.read = read
        self.working = False
        self._earlier: frozenset[str] = frozenset()
        self._arrived: asyncio.Queue[Arrival[AnEvent]]

    async def run(self) -> None:
        """Consume until cancelled; whatever breaks, start over after a moment."""
        while True:
            try:
                async with bus.connected(self.rabbitmq_url, name=self.queue.name) as broker:
                    async with asyncio.timeout(SETUP_SECONDS):
                        self._earlier = await bus.queues_of_one_user(broker, self.queue)
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
            # Of the library the layer below: above it each message costs twice as much.
            await (await channel.get_underlay_channel()).basic_consume(declared.name, self._take)
        gone = asyncio.ensure_future(self._gone(channel))
        # Looked at even when a batch breaks first, or asyncio complains of it much later.
        gone.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.working = True
        try:
            while not gone.done():
                await self._next_batch(channel, gone)
        finally:
            gone.cancel()
        gone.result()  # raises what broke, if the channel did not just close
        raise ConnectionError("the channel or the queue is gone")

    async def _take(self, message: DeliveredMessage) -> None:
        """Read a message as it comes, while the database still writes what came before."""
        if message.exchange == bus.LISTENERS_EXCHANGE:
            await _acknowledge(message)  # a publisher asked whether the queue is there
            return
        self._arrived.put_nowait(self._read(message))

    def _read(self, message: DeliveredMessage) -> Arrival[AnEvent]:
        try:
            arrival = Arrival(message, self.read(message.body))
            require_publisher(
                arrival.event,
                arrival.user,
                message.routing_key or "",
                arrival.headers,
                owner=self.queue.service,
            )
        except Exception as error:
            return Arrival(message, error)
        return arrival

    async def _declare(self, channel: AbstractChannel) -> AbstractQueue:
        declared = await bus.declare_queue(channel, self.queue, earlier=self._earlier)
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
        batch = [first.result()]
        while len(batch) < self.batch and not self._arrived.empty():
            batch.append(self._arrived.get_nowait())
        failpoint("consumer.received")
        await self._handle_batch(channel, batch)

    async def _handle_batch(self, channel: AbstractChannel, batch: list[Arrival[AnEvent]]) -> None:
        """Handle together; when that fails, in halves, until the culprit is alone and suffers.

        One at a time would be as good for a small batch, and a minute's work for a large one.
        """
        try:
            await self._apply_when_possible(channel, batch)
        except Exception as error:
            if channel.is_closed:
                raise
            if len(batch) == 1:
                await self._failed(channel, batch[0], error)
                return
            middle = len(batch) // 2
            await self._handle_batch(channel, batch[:middle])
            await self._handle_batch(channel, batch[middle:])
        else:
            failpoint("consumer.before_ack")
            # All that came before them has had its answer: batches are handled in order.
            await _acknowledge(batch[-1].message, multiple=True)
            failpoint("consumer.acked")

    async def _apply_when_possible(
        self, channel: AbstractChannel, batch: Sequence[Arrival[AnEvent]]
    ) -> None:
        """Apply, waiting out what is not the messages' fault.

        They stay ours meanwhile: the broker counts what we give back as a delivery that failed,
        and would park healthy messages after some minutes without a database.
        """
        while True:
            try:
                await self._apply(batch)
            except Exception as error:
                if not is_passing(error) or channel.is_closed:
                    raise
                log.warning("consumer_waits", queue=self.queue.name, cause=repr(error))
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _apply(self, batch: Sequence[Arrival[AnEvent]]) -> None:
        events = [arrival.event for arrival in batch]
        async with self.transactions.system(causation=events[0]) as session:
            new = await inbox.take(session, self.queue.name, events)
            if new:
                await self.handle(session, new)
                failpoint("consumer.effect")
        self._measure(new)
        HANDLED.labels(self.queue.name, "handled").inc(len(new))
        HANDLED.labels(self.queue.name, "duplicate").inc(len(events) - len(new))

    def _measure(self, handled: Sequence[AnEvent]) -> None:
        moment, lag = now(), HANDLE_LAG.labels(self.queue.name)
        for event in handled:
            # Not every publisher names a zone; ours all mean UTC.
            told = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
            lag.observe((moment - told).total_seconds())

    async def _failed(
        self, channel: AbstractChannel, arrival: Arrival[AnEvent], error: Exception
    ) -> None:
        """Count the attempt; let the message wait for the next one, or park it in the end."""
        message, id_ = arrival.message, arrival.message.header.properties.message_id
        if isinstance(error, ForgedMessage):
            FORGED.labels(self.queue.name).inc()
            log.critical("message_forged", queue=self.queue.name, event_id=id_, user=arrival.user)
        attempts = _number(arrival.headers.get(ATTEMPTS_HEADER, 0)) + 1
        hopeless = attempts >= bus.MAX_ATTEMPTS or isinstance(
            error, ValidationError | ForgedMessage
        )
        outcome, target = ("parked", self.queue.dead) if hopeless else ("retried", self.queue.retry)
        log.error(
            f"message_{outcome}",
            queue=self.queue.name,
            event_id=id_,
            attempts=attempts,
            exc_info=error,
        )
        headers = self._headers_of_copy(arrival)
        headers |= {ATTEMPTS_HEADER: attempts, ERROR_HEADER: _said_of(error)}
        copy = bus.persistent(message.body, id_ or "", headers, user=self.user)
        exchange = await channel.get_exchange(self.queue.exchange, ensure=False)
        await bus.publish(exchange, target, copy)
        await _acknowledge(message)
        HANDLED.labels(self.queue.name, outcome).inc()

    def _headers_of_copy(self, arrival: Arrival[AnEvent]) -> dict[str, Any]:
        """Say whose a message is and which type it had: of the copy the broker vouches for us."""
        publisher = publisher_of(arrival.user, arrival.headers, owner=self.queue.service)
        return {
            TYPE_HEADER: arrival.headers.get(TYPE_HEADER, arrival.message.routing_key),
            PUBLISHER_HEADER: publisher or "",
        }


def consumers_of(
    queues: Queues, transactions: Transactions, rabbitmq_url: SecretStr, *, batch: int = BATCH
) -> list[Consumer[Event]]:
    """Return one consumer for each queue, which gives each event to the handler of its type.

    Up to `batch` events share a transaction.
    """
    return [
        Consumer(
            queue, one_by_one(handlers), transactions, rabbitmq_url, read=read_event, batch=batch
        )
        for queue, handlers in queues.items()
    ]


async def _acknowledge(message: DeliveredMessage, *, multiple: bool = False) -> None:
    """Tell the broker that a message, or every one up to it, has had its effect or its place."""
    # A message that was delivered has a tag; other kinds of message never come here.
    await message.channel.basic_ack(cast(int, message.delivery_tag), multiple=multiple)


def _number(value: object) -> int:
    """Return a header's number, 0 for one that is none: anybody may have written it."""
    return value if isinstance(value, int) and 0 <= value < bus.MAX_ATTEMPTS else 0


def _said_of(error: Exception) -> str:
    """Return an error in a line for whoever looks at the parked message."""
    # The driver's own words: SQLAlchemy's would repeat every parameter of the statement.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    line = next(iter(str(cause).splitlines()), "")
    return f"{type(error).__name__}: {line}"[:300]


def is_passing(error: BaseException) -> bool:
    """Say whether the fault lies with the surroundings: database, broker or another service."""
    return isinstance(error, ServiceUnavailable) or is_outage(error)
