"""`carnet dead-letters`: shows the messages that could not be handled, replays or drops them.

A message that could not be handled is parked in the queue `<queue>.dead` until an operator decides.
A replay publishes it to its queue again, with no attempts counted. A consumer that has handled it
already ignores it because of its id.

The command signs in as the broker's user `operator`. Consumers trust the header of this user that
names the first publisher. A forged message has the name of the user who forged it, and is parked
again. A message that names no user is replayed as genuine only with the option --vouch.
"""

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from pydantic import ValidationError

from deploy.local.description import get_description
from deploy.local.errors import StartError
from deploy.local.settings import StackSettings
from deploy.operate.broker import access
from shared import bus
from shared.events import Event
from shared.failed_messages import ATTEMPTS_HEADER, ERROR_HEADER
from shared.publishers import (
    OPERATOR,
    PUBLISHER_HEADER,
    TYPE_HEADER,
    publisher_of,
    service_in,
)

T = TypeVar("T")

app = typer.Typer(help="Look at messages that could not be handled; replay or drop them.")

QueueName = Annotated[str, typer.Argument(help="A queue, as `list` shows it.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of messages, as `show` prints them.")]
All = Annotated[bool, typer.Option("--all", help="Every parked message of the queue.")]


@dataclass(frozen=True, slots=True)
class Parked:
    """A message of a dead-letter queue; unless it is acknowledged, it stays in the queue."""

    message: AbstractIncomingMessage
    queue: str

    @property
    def id(self) -> str:
        """The event's id, or a digest of the message if it has none."""
        digest = hashlib.sha256(self.message.body).hexdigest()[:16]
        return self.message.message_id or f"sha256-{digest}"

    def _header(self, name: str, otherwise: str) -> str:
        return str(self.message.headers.get(name, otherwise))

    @property
    def publisher(self) -> str | None:
        """The service that published it, or None if the broker did not confirm any."""
        owner = service_in(self.queue)
        return publisher_of(self.message.user_id, self.message.headers, owner=owner)

    def headers(self, *, vouch: bool) -> dict[str, Any]:
        """Return the headers of the message without those of its failures.

        With `vouch` a message that names no user counts as one of the service in its event's type.
        """
        publisher = self.publisher
        if publisher is None and vouch:
            with contextlib.suppress(ValidationError):
                publisher = service_in(Event.model_validate_json(self.message.body).type)
        event_type = self.message.headers.get(TYPE_HEADER)
        return {
            PUBLISHER_HEADER: publisher or "",
            **({TYPE_HEADER: event_type} if event_type else {}),
        }

    def lines(self) -> list[str]:
        """Return the message as text: its type, its failure, its publisher and its content."""
        head = [
            f"{self.id}  {self._header(TYPE_HEADER, 'of unknown type')}",
            f"  parked after {self._header(ATTEMPTS_HEADER, '?')} attempts:"
            f" {self._header(ERROR_HEADER, 'no error was recorded')}",
            f"  published by {self.publisher or 'an unknown user'}",
        ]
        try:
            event = json.loads(self.message.body)
            data, actor = event["data"], event["data"].get("actor") or {}
            user_id = actor.get("user_id")
            who = f"user {user_id}" if user_id else actor.get("role", "an unknown actor")
            origin = (
                f"  {data.get('action')} of {event.get('subject')}, organization"
                f" {data.get('organization_id')}, by {who} at {event.get('time')},"
                f" request {data.get('correlation_id')}"
            )
            return [*head, origin, _indented(json.dumps(event, indent=2))]
        except (ValueError, AttributeError, KeyError, TypeError):
            return [*head, _indented(repr(self.message.body))]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


@app.command("list")
def list_queues(
    queues: Annotated[
        list[str] | None, typer.Argument(help="Queues; those of all services if none is named.")
    ] = None,
) -> None:
    """Print how many messages are parked for each queue."""
    counts = _run(_counts(queues or known_queues()))
    for queue, count in counts.items():
        print(f"{queue:<28} {'does not exist yet' if count is None else count}")


@app.command()
def show(
    queue: QueueName,
    ids: Ids = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
) -> None:
    """Print parked messages with their error. They stay parked."""
    texts = _run(_texts(queue, set(ids or ()), limit))
    print("\n\n".join(texts) if texts else f"Nothing is parked for {queue}.")


@app.command()
def replay(
    queue: QueueName,
    ids: Ids = None,
    everything: All = False,
    vouch: Annotated[
        bool,
        typer.Option(
            "--vouch",
            help="Replay messages that name no user as genuine: those of a version without users.",
        ),
    ] = False,
) -> None:
    """Publish parked messages to their queue again, to be handled as if for the first time."""

    async def publish(channel: AbstractChannel, parked: Parked) -> None:
        """Remove the parked message only when the broker has the new one."""
        message, headers = parked.message, parked.headers(vouch=vouch)
        copy = bus.persistent_message(
            message.body, message.message_id or "", headers, user=OPERATOR
        )
        name = service_in(queue) + bus.QUEUES_SUFFIX
        exchange = await channel.get_exchange(name, ensure=False)
        await bus.publish(exchange, queue, copy)
        await message.ack()

    count = _run(_settle(queue, _selection(ids, everything), publish))
    print(f"{count} replayed to {queue}.")


@app.command()
def drop(queue: QueueName, ids: Ids = None, everything: All = False) -> None:
    """Delete parked messages permanently."""

    async def remove(_channel: AbstractChannel, parked: Parked) -> None:
        await parked.message.ack()

    count = _run(_settle(queue, _selection(ids, everything), remove))
    print(f"{count} dropped from {queue}{bus.DEAD_SUFFIX}.")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except ChannelNotFoundEntity as error:
        raise StartError(
            "There is no such queue on the broker.", "See `carnet dead-letters list`."
        ) from error
    except (OSError, TimeoutError, AMQPError) as error:
        raise StartError(
            f"The broker failed: {str(error) or type(error).__name__}.",
            "Nothing is lost; check that the system runs, and repeat the command.",
        ) from error


def _selection(ids: list[str] | None, everything: bool) -> Callable[[Parked], bool]:
    """Return a function that selects messages. Raises StartError unless ids or --all are given."""
    if bool(ids) == everything:
        raise StartError("No messages are selected.", "Name their ids, or use --all.")
    return lambda parked: everything or parked.id in (ids or ())


def known_queues() -> list[str]:
    """Return the names of the queues that the services consume."""
    # It imports all services, which only a list of every queue needs.
    from deploy.checks.event_shapes.consumers import all_readers

    return sorted(reader.name for reader in all_readers() if reader.is_durable)


def broker_url() -> str:
    """Return the broker's address for the operator: OPERATOR_RABBITMQ_URL or the running stack's.

    Raises StartError when there is neither.
    """
    variable = access.url_variable(OPERATOR)
    url = os.environ.get(variable)
    if url and bus.user_of(url) != OPERATOR:
        raise StartError(
            f"{variable} signs in as '{bus.user_of(url)}'.",
            f"Sign in as '{OPERATOR}': consumers park what another user replays.",
        )
    if url:
        return url
    description = get_description(
        StackSettings.from_environment(),
        otherwise=f"Start one with `make run`, or set {variable} to the broker's address, as in"
        f" amqp://{OPERATOR}:password@host:5672/",
    )
    return description["operator_rabbitmq_url"]


@asynccontextmanager
async def _channel() -> AsyncIterator[AbstractChannel]:
    async with bus.connected(broker_url(), name="carnet dead-letters") as connection:
        yield await bus.publishing_channel(connection)


async def _counts(queues: Iterable[str]) -> dict[str, int | None]:
    """Return how many messages are parked for each queue, None for a queue that does not exist."""
    counts: dict[str, int | None] = {}
    async with bus.connected(broker_url(), name="carnet dead-letters") as connection:
        for queue in queues:
            channel = await connection.channel()  # the broker closes it if the queue is missing
            try:
                dead = await channel.declare_queue(queue + bus.DEAD_SUFFIX, passive=True)
                counts[queue] = dead.declaration_result.message_count or 0
            except ChannelNotFoundEntity:
                counts[queue] = None
    return counts


async def _parked(channel: AbstractChannel, queue: str) -> AsyncIterator[Parked]:
    """Yield each message that is parked now, once.

    Messages that are not acknowledged return to the queue when the channel is closed.
    """
    dead = await channel.declare_queue(queue + bus.DEAD_SUFFIX, passive=True)
    for _ in range(dead.declaration_result.message_count or 0):
        message = await dead.get(fail=False)
        if message is None:
            return
        yield Parked(message, queue)


async def _texts(queue: str, ids: set[str], limit: int) -> list[str]:
    texts: list[str] = []
    async with _channel() as channel:
        async for message in _parked(channel, queue):
            if not ids or message.id in ids:
                texts.append("\n".join(message.lines()))
            if len(texts) == limit:
                break
    return texts


async def _settle(
    queue: str,
    is_selected: Callable[[Parked], bool],
    settle: Callable[[AbstractChannel, Parked], Coroutine[Any, Any, None]],
) -> int:
    """Settle the selected messages of a queue and return their number."""
    count = 0
    async with _channel() as channel:
        async for message in _parked(channel, queue):
            if is_selected(message):
                await settle(channel, message)
                count += 1
    return count
