"""The broker: what exists on it, and how a message is published. RabbitMQ 3.10 and later."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import aio_pika
import aiormq
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import (
    AMQPError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    PublishError,
)
from aiormq import spec
from aiormq.abc import ChannelFrame, FrameType
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pydantic import SecretStr
from yarl import URL

from shared.failpoints import failpoint
from shared.publishers import service_in

EXCHANGE = "carnet"
"""The topic exchange of all events. An administrator declares it: a user who may declare an
exchange may also delete it."""
LISTENERS_EXCHANGE = "carnet.listeners"
"""The direct exchange by which a publisher asks whether a queue is there; an administrator declares
it too."""
QUEUES_SUFFIX = ".queues"
"""Suffix of the direct exchange through which a service sends messages to its own queues."""
DEAD_SUFFIX = ".dead"
"""Suffix of the queue that keeps what could not be handled."""
RETRY_SUFFIX = ".retry"

RETRY_AFTER_MS = 2_000
MAX_ATTEMPTS = 5
# Counts deliveries whose consumer died, not failures that we saw: high, because a healthy message
# is redelivered at every restart, and finite, because a message that kills us must end somewhere.
DELIVERY_LIMIT = 50
CONTENT_TYPE = "application/cloudevents+json"
PUBLISH_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue, one per consumer and purpose, and the event types it takes."""

    name: str
    bindings: tuple[str, ...]

    @property
    def service(self) -> str:
        """Name of the service that consumes the queue, and of its user at the broker."""
        return service_in(self.name)

    @property
    def exchange(self) -> str:
        """Name of the direct exchange through which its service sends messages to its own queues.

        Not the default exchange: a user who may write to that one reaches every queue.
        """
        return self.service + QUEUES_SUFFIX

    @property
    def dead(self) -> str:
        """Name of the queue that keeps what could not be handled."""
        return self.name + DEAD_SUFFIX

    @property
    def retry(self) -> str:
        """Name of the queue where a failed message waits before its next attempt."""
        return self.name + RETRY_SUFFIX


class Connection(aio_pika.Connection):
    """A connection that is closed by whoever opened it.

    The library's own closes itself when it is collected as garbage: later than anybody expects,
    and without an event loop it warns of a coroutine that nobody awaits. One that could not even
    be opened holds nothing.
    """

    def __del__(self) -> None:
        pass


def user_of(url: SecretStr | str) -> str:
    """Return the name of the user that a broker's address signs in."""
    address = url.get_secret_value() if isinstance(url, SecretStr) else url
    return URL(address).user or "guest"


@asynccontextmanager
async def connected(url: SecretStr | str, *, name: str) -> AsyncIterator[AbstractConnection]:
    """Yield a plain connection: whoever loses it decides what to do, nothing hangs unseen.

    Raises OSError, TimeoutError or an AMQP error when the broker cannot be reached.
    """
    address = url.get_secret_value() if isinstance(url, SecretStr) else url
    connection = await aio_pika.connect(
        address,
        heartbeat=10,
        timeout=5,
        client_properties={"connection_name": name},
        connection_class=Connection,
    )
    try:
        yield connection
    finally:
        # A frozen broker never answers a polite goodbye.
        with suppress(TimeoutError, OSError, AMQPError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await connection.close()


async def publishing_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel on which an unroutable message raises instead of counting as delivered."""
    return await connection.channel(publisher_confirms=True, on_return_raises=True)


async def events_exchange(channel: AbstractChannel) -> AbstractExchange:
    """Return the one topic exchange; only its use shows whether it exists."""
    return await channel.get_exchange(EXCHANGE, ensure=False)


async def declare_queue(
    channel: AbstractChannel, queue: Queue, *, earlier: Collection[str] = ()
) -> AbstractQueue:
    """Declare a queue with its retry and dead-letter queues and bind them.

    The binding by which publishers find the queue comes last: it shows that all others are there.
    `earlier` names those of them that an earlier version declared: see `queues_of_one_user`.
    """
    own = await channel.declare_exchange(queue.exchange, ExchangeType.DIRECT, durable=True)
    dead = await channel.declare_queue(queue.dead, durable=True, arguments=_quorum())
    retry, declared = [
        await channel.declare_queue(
            name, durable=True, arguments=_arguments(queue, name, name in earlier)
        )
        for name in (queue.retry, queue.name)
    ]
    for each in (dead, retry, declared):
        await each.bind(own, each.name)
    for binding in queue.bindings:
        await declared.bind(EXCHANGE, binding)
    await declared.bind(LISTENERS_EXCHANGE, queue.name)
    return declared


async def queues_of_one_user(connection: AbstractConnection, queue: Queue) -> frozenset[str]:
    """Declare a queue and its retry queue; return which of them an earlier version declared.

    Before each service had its own user, dead letters went through the default exchange. What a
    queue was declared with stays as long as the queue does, and goes on working: the broker itself
    needs no permission. Raises ChannelPreconditionFailed when a queue is of neither kind.
    """
    earlier = set()
    for name in (queue.retry, queue.name):
        try:
            await _declare_alone(connection, name, _arguments(queue, name, False))
        except ChannelPreconditionFailed:
            await _declare_alone(connection, name, _arguments(queue, name, True))
            earlier.add(name)
    return frozenset(earlier)


async def _declare_alone(
    connection: AbstractConnection, name: str, arguments: dict[str, Any]
) -> None:
    """Declare a queue on a channel of its own, which the broker closes if it refuses."""
    channel = await connection.channel()
    await channel.declare_queue(name, durable=True, arguments=arguments)
    await channel.close()


async def is_declared(channel: AbstractChannel, queue: str, *, user: str) -> bool:
    """Say whether a queue, of whatever service, is declared and has all of its bindings.

    Asked by a message that the broker returns when the queue is not there, and that the queue's
    consumer drops. A passive declaration, which RabbitMQ 3 answers to anybody, needs permissions on
    another service's queue as of 4.2.6: https://github.com/rabbitmq/rabbitmq-server/pull/16085.
    """
    exchange = await channel.get_exchange(LISTENERS_EXCHANGE, ensure=False)
    try:
        await publish(exchange, queue, Message(b"", user_id=user))
    except PublishError:
        return False
    return True


async def declare_lasting_queue(
    channel: AbstractChannel, name: str, bindings: Iterable[str], *, seconds: float
) -> AbstractQueue:
    """Declare a queue that outlives its consumer's connection for some seconds, and bind it.

    For news that every process must receive and that none needs after it is gone. The name begins
    with the user's.
    """
    expires: dict[str, Any] = {"x-expires": int(seconds * 1000)}
    queue = await channel.declare_queue(name, durable=True, arguments=expires)
    for binding in bindings:
        await queue.bind(EXCHANGE, binding)
    return queue


async def is_queue(connection: AbstractConnection, name: str) -> bool:
    """Return whether one's own queue is still there."""
    # The broker closes a channel on which a missing queue is named.
    channel = await connection.channel()
    try:
        await channel.declare_queue(name, passive=True, timeout=CLOSE_TIMEOUT)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


async def is_drained(channel: AbstractChannel, queue: AbstractQueue) -> bool:
    """Return whether this connection, its only consumer, has received all that a queue had.

    A consumer whose connection broke may still hold messages until the broker notices. Raises an
    AMQP error when the queue is not there, TimeoutError when the broker does not answer.
    """
    state = await channel.declare_queue(queue.name, passive=True, timeout=CLOSE_TIMEOUT)
    result = state.declaration_result
    return not result.message_count and result.consumer_count == 1


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message as a consumer receives it. `user` is the publisher that the broker vouches for."""

    id: str | None
    routing_key: str
    user: str | None
    headers: Mapping[str, Any]
    body: bytes


class LastingQueue:
    """A queue that this process alone consumes and that outlives its connection for a while."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self._channel = channel
        self._queue = queue

    async def is_drained(self) -> bool:
        """Return whether every message of the queue was received, and by this process."""
        return await is_drained(self._channel, self._queue)


async def consume_lasting_queue(
    connection: AbstractConnection,
    name: str,
    bindings: Iterable[str],
    handle: Callable[[ReceivedMessage], None],
    *,
    seconds: float,
) -> LastingQueue:
    """Declare a queue that outlives its connection by `seconds`, and handle all of its messages.

    A message is acknowledged after `handle` has returned. If the connection breaks before that,
    the next connection delivers the message again.
    """

    async def receive(message: AbstractIncomingMessage) -> None:
        key = message.routing_key or ""
        handle(
            ReceivedMessage(message.message_id, key, message.user_id, message.headers, message.body)
        )
        with suppress(AMQPError, OSError, RuntimeError):
            await message.ack()

    channel = await connection.channel()
    queue = await declare_lasting_queue(channel, name, bindings, seconds=seconds)
    await queue.consume(receive)
    return LastingQueue(channel, queue)


def _quorum() -> dict[str, Any]:
    return {"x-queue-type": "quorum"}


def _arguments(queue: Queue, name: str, of_one_user: bool) -> dict[str, Any]:
    """Return what a queue, or its retry queue, is declared with."""
    exchange = "" if of_one_user else queue.exchange
    if name == queue.retry:
        arguments = {"x-message-ttl": RETRY_AFTER_MS}
        return _quorum() | _dead_letters(exchange, queue.name) | arguments
    arguments = {"x-delivery-limit": DELIVERY_LIMIT, "x-single-active-consumer": True}
    return _quorum() | _dead_letters(exchange, queue.dead) | arguments


def _dead_letters(exchange: str, queue: str) -> dict[str, Any]:
    """Move dead letters at least once: the default strategy loses them when the target is away."""
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def persistent(
    body: bytes, message_id: str, headers: Mapping[str, Any] | None = None, *, user: str
) -> Message:
    """Return a message of a user that survives a restart of the broker.

    The broker refuses it from any other user.
    """
    return Message(
        body,
        message_id=message_id,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=dict(headers or {}),
        user_id=user,
    )


async def publish(exchange: AbstractExchange, routing_key: str, message: Message) -> None:
    """Publish and wait for the broker's confirmation.

    Raises an AMQP or timeout error when it was not confirmed: unroutable, refused, broker away or
    frozen. A frozen broker makes the library raise CancelledError although nobody cancelled us;
    that must not pass for a cancellation.
    """
    try:
        async with asyncio.timeout(PUBLISH_TIMEOUT):
            await exchange.publish(message, routing_key, mandatory=True)
    except asyncio.CancelledError as error:
        raise_if_cancelled(error)
        raise ConnectionError("the broker went away before it confirmed") from None


def raise_if_cancelled(error: BaseException) -> None:
    """Raise a cancellation that somebody asked for; the library also uses it to say «broken».

    It may as well make another error of one that was asked for: then that one is raised.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    if isinstance(error, asyncio.CancelledError):
        raise error
    raise asyncio.CancelledError from error


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of a batch: the bytes and what the broker must know of them."""

    routing_key: str
    message_id: str
    body: bytes
    user: str
    """Who publishes it: the broker refuses it from any other user."""


async def publish_all(
    channel: AbstractChannel, messages: Sequence[Outgoing]
) -> list[BaseException | None]:
    """Publish persistent messages to the exchange, in their order, in one piece.

    Returns for each None or why it was not confirmed. Raises an AMQP or timeout error when the
    channel cannot be written to; then it is of no further use.

    Message by message the library needs a task, a lock, two futures and a turn of its writer for
    each: three times as much in all. What its `basic_publish` does for one is done here for the
    batch, in the same steps.
    """
    writer = cast(aiormq.Channel, await channel.get_underlay_channel())
    confirmations = await _write(writer, messages)
    try:
        if confirmations:
            await asyncio.wait(confirmations, timeout=PUBLISH_TIMEOUT)
        return [_outcome(confirmation) for confirmation in confirmations]
    finally:
        for message, confirmation in zip(messages, confirmations, strict=True):
            confirmation.cancel()
            writer.message_id_delivery_tag.pop(message.message_id, None)


async def _write(writer: aiormq.Channel, messages: Sequence[Outgoing]) -> list[asyncio.Future[Any]]:
    """Give a batch to the connection's writer; return the confirmations to come."""
    confirmations = []
    frames: list[FrameType | ContentBody] = []
    async with asyncio.timeout(PUBLISH_TIMEOUT), writer.lock:
        for message in messages:
            failpoint("publish.begun")
            writer.delivery_tag += 1
            confirmation = writer.create_future()
            writer.confirmations[writer.delivery_tag] = confirmation
            # By its id the library finds the message that comes back as unroutable.
            writer.message_id_delivery_tag[message.message_id] = writer.delivery_tag
            confirmations.append(confirmation)
            frames += _frames_of(message, writer.max_content_size)
        await writer.write_queue.put(ChannelFrame.marshall(writer.number, frames))
    return confirmations


def _frames_of(message: Outgoing, most: int) -> list[FrameType | ContentBody]:
    properties = spec.Basic.Properties(
        message_id=message.message_id,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        user_id=message.user,
    )
    body = message.body
    return [
        spec.Basic.Publish(exchange=EXCHANGE, routing_key=message.routing_key, mandatory=True),
        ContentHeader(properties=properties, body_size=len(body)),
        *(ContentBody(body[start : start + most]) for start in range(0, len(body), most)),
    ]


def _outcome(confirmation: asyncio.Future[Any]) -> BaseException | None:
    if not confirmation.done():
        return TimeoutError("the broker did not confirm in time")
    # A frozen broker makes the library cancel what nobody cancelled.
    if confirmation.cancelled():
        return ConnectionError("the broker went away before it confirmed")
    if error := confirmation.exception():
        return error
    failpoint("publish.confirmed")
    return None
