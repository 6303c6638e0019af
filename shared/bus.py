"""The broker's exchanges and queues, and publishing. RabbitMQ 3.10 and later."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import aio_pika
import aiormq
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractQueue,
)
from aio_pika.exceptions import (
    AMQPError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    PublishError,
)
from aiormq import spec
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pydantic import SecretStr
from yarl import URL

from shared.failpoints import failpoint
from shared.publishers import service_in

EXCHANGE = "carnet"
"""The topic exchange of all events. An administrator declares it, because a user who may declare an
exchange may also delete it."""
LISTENERS_EXCHANGE = "carnet.listeners"
"""The direct exchange by which a publisher checks that a queue exists. An administrator declares it
too."""
QUEUES_SUFFIX = ".queues"
"""Suffix of the direct exchange through which a service sends messages to its own queues."""
DEAD_SUFFIX = ".dead"
"""Suffix of the queue with the messages that could not be handled."""
RETRY_SUFFIX = ".retry"

RETRY_AFTER_MS = 2_000
MAX_ATTEMPTS = 5
# Counts deliveries whose consumer died, not the failures that we handle: high, because a valid
# message is redelivered at every restart, and finite, because a message may kill its consumer.
DELIVERY_LIMIT = 50
_QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
CONTENT_TYPE = "application/cloudevents+json"
PUBLISH_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue of one consumer, and the event types that are bound to it."""

    name: str
    bindings: tuple[str, ...]

    @property
    def service(self) -> str:
        """Name of the service that consumes the queue, and of its user at the broker."""
        return service_in(self.name)

    @property
    def exchange(self) -> str:
        """Name of the direct exchange through which its service sends messages to its own queues.

        Not the default exchange: a user who may publish to that one reaches every queue.
        """
        return self.service + QUEUES_SUFFIX

    @property
    def dead(self) -> str:
        """Name of the queue with the messages that could not be handled."""
        return self.name + DEAD_SUFFIX

    @property
    def retry(self) -> str:
        """Name of the queue where a failed message waits before its next attempt."""
        return self.name + RETRY_SUFFIX


class Connection(aio_pika.Connection):
    """A connection that is closed by the code that opened it.

    The library's own closes itself when it is collected as garbage: at an unexpected time, and
    with a warning about a coroutine that was not awaited if no event loop runs.
    """

    def __del__(self) -> None:
        pass


def user_of(url: SecretStr | str) -> str:
    """Return the name of the user in a broker's address."""
    address = url.get_secret_value() if isinstance(url, SecretStr) else url
    return URL(address).user or "guest"


@asynccontextmanager
async def connected(url: SecretStr | str, *, name: str) -> AsyncIterator[AbstractConnection]:
    """Yield a connection that does not reconnect by itself: a lost connection raises an error.

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
        # A frozen broker does not respond to the request to close.
        with suppress(TimeoutError, OSError, AMQPError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await connection.close()


async def publishing_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel on which publishing an unroutable message raises an error."""
    return await connection.channel(publisher_confirms=True, on_return_raises=True)


async def events_exchange(channel: AbstractChannel) -> AbstractExchange:
    """Return the topic exchange, without a check that it exists."""
    return await channel.get_exchange(EXCHANGE, ensure=False)


async def declare_queue(
    channel: AbstractChannel, queue: Queue, *, legacy: Collection[str] = ()
) -> AbstractQueue:
    """Declare a queue with its retry and dead-letter queues and bind them.

    The binding by which publishers find the queue is made last: it proves that all others exist.
    `legacy` names the queues that were declared by version 2.0: see `legacy_queues`.
    """
    own = await channel.declare_exchange(queue.exchange, ExchangeType.DIRECT, durable=True)
    dead = await channel.declare_queue(queue.dead, durable=True, arguments=_QUORUM)
    retry, main = [
        await channel.declare_queue(
            name, durable=True, arguments=_arguments(queue, name, name in legacy)
        )
        for name in (queue.retry, queue.name)
    ]
    for each in (dead, retry, main):
        await each.bind(own, each.name)
    for binding in queue.bindings:
        await main.bind(EXCHANGE, binding)
    await main.bind(LISTENERS_EXCHANGE, queue.name)
    return main


async def legacy_queues(connection: AbstractConnection, queue: Queue) -> frozenset[str]:
    """Declare a queue and its retry queue; return which of them version 2.0 had declared.

    In version 2.0 all services had one user, and dead letters went through the default exchange. A
    queue cannot be changed after it was declared, and these queues still work: the broker itself
    needs no permission. Raises ChannelPreconditionFailed when a queue is of neither kind.
    """
    legacy = set()
    for name in (queue.retry, queue.name):
        try:
            await _declare_alone(connection, name, _arguments(queue, name, False))
        except ChannelPreconditionFailed:
            await _declare_alone(connection, name, _arguments(queue, name, True))
            legacy.add(name)
    return frozenset(legacy)


async def _declare_alone(
    connection: AbstractConnection, name: str, arguments: dict[str, Any]
) -> None:
    """Declare a queue on a channel of its own, because the broker closes it when it refuses."""
    channel = await connection.channel()
    await channel.declare_queue(name, durable=True, arguments=arguments)
    await channel.close()


async def is_declared(channel: AbstractChannel, queue: str, *, user: str) -> bool:
    """Return whether a queue of any service is declared and has all of its bindings.

    The check is a message that the broker returns if the queue does not exist, and that the
    queue's consumer drops. A passive declaration needs permissions on another service's queue as of
    RabbitMQ 4.2.6: https://github.com/rabbitmq/rabbitmq-server/pull/16085.
    """
    exchange = await channel.get_exchange(LISTENERS_EXCHANGE, ensure=False)
    try:
        await publish(exchange, queue, Message(b"", user_id=user))
    except PublishError:
        return False
    return True


async def is_queue(connection: AbstractConnection, name: str) -> bool:
    """Return whether a queue of the connection's own user exists."""
    # The broker closes the channel if the queue does not exist.
    channel = await connection.channel()
    try:
        await channel.declare_queue(name, passive=True, timeout=CLOSE_TIMEOUT)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


def _arguments(queue: Queue, name: str, is_legacy: bool) -> dict[str, Any]:
    """Return the arguments with which a queue, or its retry queue, is declared."""
    exchange = "" if is_legacy else queue.exchange
    if name == queue.retry:
        arguments = {"x-message-ttl": RETRY_AFTER_MS}
        return _QUORUM | _dead_letters(exchange, queue.name) | arguments
    arguments = {"x-delivery-limit": DELIVERY_LIMIT, "x-single-active-consumer": True}
    return _QUORUM | _dead_letters(exchange, queue.dead) | arguments


def _dead_letters(exchange: str, queue: str) -> dict[str, Any]:
    """Move dead letters at least once: the default strategy may lose them."""
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def persistent_message(
    body: bytes, message_id: str, headers: Mapping[str, Any] | None = None, *, user: str
) -> Message:
    """Return a message that survives a restart of the broker.

    The broker refuses it unless `user` is the connection's user.
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
    """Publish a message and wait for the broker's confirmation.

    Raises an AMQP or timeout error if it was not confirmed: it is unroutable or refused, or the
    broker is unreachable or frozen. The library raises CancelledError for a frozen broker although
    the task was not cancelled; here that becomes ConnectionError.
    """
    try:
        async with asyncio.timeout(PUBLISH_TIMEOUT):
            await exchange.publish(message, routing_key, mandatory=True)
    except asyncio.CancelledError as error:
        raise_if_cancelled(error)
        raise ConnectionError("the connection was lost before the broker confirmed") from None


def raise_if_cancelled(error: BaseException) -> None:
    """Raise CancelledError if the current task was cancelled.

    The library raises CancelledError also for a broken connection, and may turn a real cancellation
    into another error.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    if isinstance(error, asyncio.CancelledError):
        raise error
    raise asyncio.CancelledError from error


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of a batch, with the properties that the broker needs."""

    routing_key: str
    message_id: str
    body: bytes
    user: str
    """The user who publishes it: the broker refuses it from any other user."""


async def publish_all(
    channel: AbstractChannel, messages: Sequence[Outgoing]
) -> list[BaseException | None]:
    """Publish persistent messages to the exchange, in their order, with one write.

    Returns for each message None or the reason why it was not confirmed. Raises an AMQP or timeout
    error if the channel cannot be written to; then it must not be used again.

    Publishing one by one takes three times as long: the library needs a task, a lock, two futures
    and a step of its writer for each. This function does for a batch what the library's
    `basic_publish` does for a message (see tests/test_library_internals.py).
    """
    return await (await write_all(channel, messages))


async def write_all(
    channel: AbstractChannel, messages: Sequence[Outgoing]
) -> asyncio.Task[list[BaseException | None]]:
    """Do what `publish_all` does, and return when the messages are written.

    The task returns the outcomes. The next messages may be written before it has ended.
    """
    writer = cast(aiormq.Channel, await channel.get_underlay_channel())
    confirmations = await _write(writer, messages)
    return asyncio.create_task(_outcomes(writer, messages, confirmations))


async def _outcomes(
    writer: aiormq.Channel,
    messages: Sequence[Outgoing],
    confirmations: Sequence[asyncio.Future[Any]],
) -> list[BaseException | None]:
    """Wait for the confirmations of a batch."""
    try:
        if confirmations:
            await asyncio.wait(confirmations, timeout=PUBLISH_TIMEOUT)
        return [outcome_of(confirmation) for confirmation in confirmations]
    finally:
        for message, confirmation in zip(messages, confirmations, strict=True):
            confirmation.cancel()
            writer.message_id_delivery_tag.pop(message.message_id, None)


async def _write(writer: aiormq.Channel, messages: Sequence[Outgoing]) -> list[asyncio.Future[Any]]:
    """Pass a batch to the connection's writer; return a future for each confirmation."""
    confirmations = []
    payloads: list[bytes] = []
    async with asyncio.timeout(PUBLISH_TIMEOUT), writer.lock:
        for message in messages:
            failpoint("publish.begun")
            writer.delivery_tag += 1
            confirmation = writer.create_future()
            writer.confirmations[writer.delivery_tag] = confirmation
            # By its id the library finds the future of a message that is returned as unroutable.
            writer.message_id_delivery_tag[message.message_id] = writer.delivery_tag
            confirmations.append(confirmation)
            payloads += _frames_of(message, writer.number, writer.max_content_size)
        await writer.write_queue.put(ChannelFrame(b"".join(payloads), should_close=False))
    return confirmations


def _frames_of(message: Outgoing, channel_number: int, max_size: int) -> list[bytes]:
    """Return the frames of a message, its body in parts of at most `max_size` bytes."""
    properties = spec.Basic.Properties(
        message_id=message.message_id,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        user_id=message.user,
    )
    body = message.body
    frames: list[ContentHeader | ContentBody] = [
        ContentHeader(properties=properties, body_size=len(body))
    ]
    frames += [
        ContentBody(body[start : start + max_size]) for start in range(0, len(body), max_size)
    ]
    return [
        _publish_frame(message.routing_key, channel_number),
        *(marshal(frame, channel_number) for frame in frames),
    ]


@lru_cache(maxsize=256)
def _publish_frame(routing_key: str, channel_number: int) -> bytes:
    """Return the first frame of a message, which is the same for each event of a type."""
    frame = spec.Basic.Publish(exchange=EXCHANGE, routing_key=routing_key, mandatory=True)
    return marshal(frame, channel_number)


def outcome_of(confirmation: asyncio.Future[Any]) -> BaseException | None:
    """Return None for a message that was confirmed, else the reason why it was not."""
    if not confirmation.done():
        return TimeoutError("the broker did not confirm in time")
    # The library cancels the futures when the connection breaks.
    if confirmation.cancelled():
        return ConnectionError("the connection was lost before the broker confirmed")
    if error := confirmation.exception():
        return error
    failpoint("publish.confirmed")
    return None
