"""Consumers: handle the events of a queue in order, each exactly once; park the failures."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from itertools import groupby
from typing import Any, Generic, TypeVar, cast

import structlog
from aio_pika.abc import AbstractChannel, AbstractQueue
from aiormq.abc import DeliveredMessage
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from shared import bus, inbox
from shared.bus import Queue
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.events import AnEvent, Event
from shared.failed_messages import send_copy
from shared.failpoints import failpoint
from shared.fallbacks import FALLBACK_BATCH, Fallback
from shared.message_buffer import MessageBuffer, ReceivedMessage
from shared.outages import is_outage
from shared.publishers import require_publisher
from shared.telemetry import HANDLE_LAG, HANDLED, WAITING
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
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


def read_event(body: bytes) -> Event:
    """Return the event in a message. Raises ValidationError if there is none."""
    return Event.model_validate_json(body)


@dataclass(frozen=True, slots=True)
class InboxHandler(Generic[AnEvent]):
    """A handler that marks events as handled itself, together with a part of their effect.

    `apply` takes the queue's name and events that may be repeated, and returns the new ones, each
    once, as `inbox.take` does.
    """

    apply: Callable[[AsyncSession, str, Sequence[AnEvent]], Awaitable[Sequence[AnEvent]]]


def one_by_one(handlers: Mapping[str, Handler]) -> BatchHandler[Event]:
    """Return a batch handler that passes each event to the handler of its type.

    Changes are recorded with the origin "system" and the event as their cause.
    """

    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            Transactions.caused_by(session, event)
            await handlers[event.type](session, event)

    return handle


class Consumer(Generic[AnEvent]):
    """Handles the messages of one queue.

    The broker lets one of several instances be active, so that the events of an entity are handled
    in order; another takes over within a second. `read` returns what `handle` takes of a message;
    it runs while the database still writes the batch before. Up to `batch` events share a
    transaction, and batches begin every `interval` seconds on average at most. Events that are only
    a `fallback` wait, and are skipped together when there is nothing left to do.
    """

    def __init__(
        self,
        queue: Queue,
        handle: BatchHandler[AnEvent] | InboxHandler[AnEvent],
        transactions: Transactions,
        rabbitmq_url: SecretStr,
        *,
        read: Reader[AnEvent],
        batch: int = BATCH,
        interval: float = 0.0,
        fallback: Fallback[AnEvent] | None = None,
    ) -> None:
        self.queue = queue
        self.handle = handle
        self.transactions = transactions
        self.rabbitmq_url = rabbitmq_url
        self.user = bus.user_of(rabbitmq_url)
        self.batch = batch
        self.interval = interval
        self.fallback = fallback
        self.read = read
        self.working = False
        self._legacy_queues: frozenset[str] = frozenset()
        self._messages: MessageBuffer[AnEvent]

    async def run(self) -> None:
        """Consume until cancelled. After any error, connect again."""
        while True:
            try:
                async with bus.connected(self.rabbitmq_url, name=self.queue.name) as broker:
                    async with asyncio.timeout(SETUP_SECONDS):
                        self._legacy_queues = await bus.legacy_queues(broker, self.queue)
                    await self._consume(await bus.publishing_channel(broker))
            except (Exception, asyncio.CancelledError) as error:
                bus.raise_if_cancelled(error)
                log.warning("consumer_interrupted", queue=self.queue.name, cause=repr(error))
            finally:
                self.working = False
            await asyncio.sleep(RESTART_SECONDS)

    async def _consume(self, channel: AbstractChannel) -> None:
        # A queue whose leader has just died does not respond.
        async with asyncio.timeout(SETUP_SECONDS):
            together = max(self.batch, FALLBACK_BATCH) if self.fallback else self.batch
            await channel.set_qos(prefetch_count=2 * together)
            queue = await self._declare(channel)
            fallback = self.fallback
            self._messages = MessageBuffer(
                batch=together,
                interval=self.interval,
                lazy_types=fallback.types if fallback else frozenset(),
                linger=fallback.linger if fallback else 0.0,
            )
            # The lower layer of the library: with the upper one each message costs twice as much.
            await (await channel.get_underlay_channel()).basic_consume(queue.name, self._receive)
        end = asyncio.ensure_future(self._wait_for_end(channel))
        # Retrieves the exception, or asyncio logs it much later when a batch fails first.
        end.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.working = True
        try:
            while not end.done():
                await self._handle_next_batch(channel, end)
        finally:
            end.cancel()
        end.result()  # raises the error, if there was one
        raise ConnectionError("the channel or the queue is gone")

    async def _receive(self, message: DeliveredMessage) -> None:
        """Read a message when it arrives, while the database still writes the batch before."""
        if message.exchange == bus.LISTENERS_EXCHANGE:
            await _acknowledge(message)  # a publisher checks that the queue exists
            return
        try:
            arrival = ReceivedMessage(message, self.read(message.body))
            require_publisher(
                arrival.event,
                arrival.user,
                message.routing_key or "",
                arrival.headers,
                owner=self.queue.service,
            )
        except Exception as error:
            arrival = ReceivedMessage(message, error)
        self._messages.put(arrival)

    async def _declare(self, channel: AbstractChannel) -> AbstractQueue:
        queue = await bus.declare_queue(channel, self.queue, legacy=self._legacy_queues)
        WAITING.labels(self.queue.name).set(queue.declaration_result.message_count or 0)
        return queue

    async def _wait_for_end(self, channel: AbstractChannel) -> None:
        """Return when the channel is closed or the broker no longer has a consumer of the queue.

        The broker does not notify us when an operator deletes the queue or a binding, so both are
        declared again at intervals.
        """
        closing = asyncio.ensure_future(channel.closed())
        try:
            while not closing.done():
                await asyncio.wait({closing}, timeout=CHECK_SECONDS)
                async with asyncio.timeout(SETUP_SECONDS):
                    queue = await self._declare(channel)
                if not queue.declaration_result.consumer_count:
                    return
        finally:
            closing.cancel()

    async def _handle_next_batch(self, channel: AbstractChannel, end: asyncio.Future[Any]) -> None:
        taking = asyncio.ensure_future(self._messages.take())
        try:
            await asyncio.wait({taking, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not taking.done():
                taking.cancel()
        if not taking.done() or taking.cancelled():
            return
        batch = taking.result()
        failpoint("consumer.received")
        applied = await self._skip_applied(channel, batch)
        for is_applied, group in groupby(batch, lambda one: one.event_id in applied):
            messages = list(group)
            if is_applied:
                await self._finish(messages)
                continue
            for start in range(0, len(messages), self.batch):
                await self._handle_batch(channel, messages[start : start + self.batch])

    async def _skip_applied(
        self, channel: AbstractChannel, batch: Sequence[ReceivedMessage[AnEvent]]
    ) -> set[str | None]:
        """Mark the fallback events whose effect is there as handled, and return their ids.

        If that fails, none is skipped: they are handled one after the other, and the one that is to
        blame is found.
        """
        fallback = self.fallback
        if fallback is None:
            return set()
        contents = [one.content for one in batch]
        events = [e for e in contents if not isinstance(e, Exception) and e.type in fallback.types]
        if not events:
            return set()
        try:
            skip = partial(self._skip, fallback, events)
            return await self._when_possible(channel, skip)
        except Exception as error:
            if channel.is_closed:
                raise
            log.warning("fallbacks_not_skipped", queue=self.queue.name, cause=repr(error))
            return set()

    async def _skip(
        self, fallback: Fallback[AnEvent], events: Sequence[AnEvent]
    ) -> set[str | None]:
        async with self.transactions.system() as session:
            ids = set(await fallback.find_applied(session, events))
            duplicates = [event for event in events if event.id in ids]
            new = await inbox.take(session, self.queue.name, duplicates)
        self._count("skipped", duplicates, new)
        return {event.id for event in duplicates}

    async def _handle_batch(
        self, channel: AbstractChannel, batch: list[ReceivedMessage[AnEvent]]
    ) -> None:
        """Handle a batch together; if that fails, each half, until the failing message is alone.

        Handling a large batch one by one would take a minute.
        """
        try:
            await self._when_possible(channel, partial(self._apply, batch))
        except Exception as error:
            if channel.is_closed:
                raise
            if len(batch) == 1:
                await self._retry_or_park(channel, batch[0], error)
                return
            middle = len(batch) // 2
            await self._handle_batch(channel, batch[:middle])
            await self._handle_batch(channel, batch[middle:])
        else:
            await self._finish(batch)

    async def _finish(self, batch: Sequence[ReceivedMessage[AnEvent]]) -> None:
        failpoint("consumer.before_ack")
        # All messages before are acknowledged already: batches are handled in order.
        await _acknowledge(batch[-1].message, multiple=True)
        failpoint("consumer.acked")

    async def _when_possible(
        self, channel: AbstractChannel, apply: Callable[[], Awaitable[Result]]
    ) -> Result:
        """Apply a batch; during an outage, wait and try again.

        The messages are not returned meanwhile: the broker counts a returned message as a failed
        delivery, and would park valid messages after some minutes without a database.
        """
        while True:
            try:
                return await apply()
            except Exception as error:
                if not is_passing(error) or channel.is_closed:
                    raise
                log.warning("consumer_waits", queue=self.queue.name, cause=repr(error))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _apply(self, batch: Sequence[ReceivedMessage[AnEvent]]) -> None:
        events = [item.event for item in batch]
        async with self.transactions.system(causation=events[0]) as session:
            if isinstance(self.handle, InboxHandler):
                new = await self.handle.apply(session, self.queue.name, events)
            elif new := await inbox.take(session, self.queue.name, events):
                await self.handle(session, new)
            if new:
                failpoint("consumer.effect")
        self._count("handled", events, new)

    def _count(self, outcome: str, events: Sequence[AnEvent], new: Sequence[AnEvent]) -> None:
        for event in new:
            # Not every publisher names a zone; all of them mean UTC.
            time = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
            HANDLE_LAG.labels(self.queue.name).observe((now() - time).total_seconds())
        HANDLED.labels(self.queue.name, outcome).inc(len(new))
        HANDLED.labels(self.queue.name, "duplicate").inc(len(events) - len(new))

    async def _retry_or_park(
        self, channel: AbstractChannel, received: ReceivedMessage[AnEvent], error: Exception
    ) -> None:
        outcome = await send_copy(channel, self.queue, received, error, user=self.user)
        await _acknowledge(received.message)
        HANDLED.labels(self.queue.name, outcome).inc()


def consumers_of(
    queues: Queues,
    transactions: Transactions,
    rabbitmq_url: SecretStr,
    *,
    batch: int = BATCH,
    fallbacks: Mapping[str, Fallback[Event]] | None = None,
) -> list[Consumer[Event]]:
    """Return one consumer for each queue, which passes each event to the handler of its type.

    Up to `batch` events share a transaction. `fallbacks` are those of some queues, by their name.
    """
    return [
        Consumer(
            queue,
            one_by_one(handlers),
            transactions,
            rabbitmq_url,
            read=read_event,
            batch=batch,
            fallback=(fallbacks or {}).get(queue.name),
        )
        for queue, handlers in queues.items()
    ]


async def _acknowledge(message: DeliveredMessage, *, multiple: bool = False) -> None:
    """Acknowledge a message, or every message up to it."""
    # Every delivered message has a tag; only returned ones have none.
    await message.channel.basic_ack(cast(int, message.delivery_tag), multiple=multiple)


def is_passing(error: BaseException) -> bool:
    """Return whether the error is an outage of the database, the broker or another service."""
    return isinstance(error, ServiceUnavailable) or is_outage(error)
