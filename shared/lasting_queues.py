"""Queues of one process that outlive its connection, for messages that every process needs."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import AMQPError

from shared.bus import CLOSE_TIMEOUT, EXCHANGE


@dataclass(frozen=True, slots=True)
class LastingMessage:
    """A message of a lasting queue. `user` is the publisher that the broker vouches for."""

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
    handle: Callable[[LastingMessage], None],
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
            LastingMessage(message.message_id, key, message.user_id, message.headers, message.body)
        )
        with suppress(AMQPError, OSError, RuntimeError):
            await message.ack()

    channel = await connection.channel()
    queue = await declare_lasting_queue(channel, name, bindings, seconds=seconds)
    await queue.consume(receive)
    return LastingQueue(channel, queue)


async def declare_lasting_queue(
    channel: AbstractChannel, name: str, bindings: Iterable[str], *, seconds: float
) -> AbstractQueue:
    """Declare a queue that remains for some seconds after its consumer disconnected, and bind it.

    For messages that every process must receive, and that no other process needs. The name must
    begin with the user's name.
    """
    expires: dict[str, Any] = {"x-expires": int(seconds * 1000)}
    queue = await channel.declare_queue(name, durable=True, arguments=expires)
    for binding in bindings:
        await queue.bind(EXCHANGE, binding)
    return queue


async def is_drained(channel: AbstractChannel, queue: AbstractQueue) -> bool:
    """Return whether this connection is the only consumer of a queue and has received everything.

    A consumer with a broken connection may hold messages until the broker detects it. Raises an
    AMQP error if the queue does not exist, TimeoutError if the broker does not respond.
    """
    state = await channel.declare_queue(queue.name, passive=True, timeout=CLOSE_TIMEOUT)
    result = state.declaration_result
    return not result.message_count and result.consumer_count == 1
