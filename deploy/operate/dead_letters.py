"""`carnet dead-letters`: look at the messages that could not be handled, replay or drop them.

A parked message waits in `<queue>.dead` until somebody decides. Replaying gives it back to the
queue it came from, with its attempts forgotten; whoever has handled it already drops it by its id.

It signs in as the broker's user `operator`, whom consumers believe when a copy says who published
the message first. A forged message keeps the name of the user who forged it, and is parked again.
A message that names no user at all is replayed as genuine only when a person says so (--vouch).
"""

import asyncio
import hashlib
import importlib
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, TypeVar

import typer
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from pydantic import ValidationError

from deploy.local.errors import StartError
from deploy.local.settings import StackSettings
from deploy.local.stack import description_of
from deploy.local.system import SERVICES
from deploy.operate.broker import access
from shared import bus
from shared.consumer import ATTEMPTS_HEADER, ERROR_HEADER
from shared.events import Event
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
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of messages, as `show` tells them.")]
All = Annotated[bool, typer.Option("--all", help="Every parked message of the queue.")]


@dataclass(frozen=True, slots=True)
class Parked:
    """A message in a dead-letter queue, taken but not acknowledged: it goes back by itself."""

    message: AbstractIncomingMessage
    queue: str

    @property
    def id(self) -> str:
        """The event's id, or the digest of what has none."""
        digest = hashlib.sha256(self.message.body).hexdigest()[:16]
        return self.message.message_id or f"sha256-{digest}"

    def _header(self, name: str, otherwise: str) -> str:
        return str(self.message.headers.get(name, otherwise))

    @property
    def publisher(self) -> str | None:
        """Whose message it is; None when the broker never vouched for anybody."""
        owner = service_in(self.queue)
        return publisher_of(self.message.user_id, self.message.headers, owner=owner)

    def headers(self, *, vouch: bool) -> dict[str, Any]:
        """Return the headers that belong to the message and not to its failures.

        With `vouch` a message that names no user counts as one of the service in its event's type.
        """
        publisher = self.publisher or (self._claimed() if vouch else None)
        kept = self.message.headers.get(TYPE_HEADER)
        return {PUBLISHER_HEADER: publisher or "", **({TYPE_HEADER: kept} if kept else {})}

    def _claimed(self) -> str | None:
        try:
            return service_in(Event.model_validate_json(self.message.body).type)
        except ValidationError:
            return None

    def lines(self) -> list[str]:
        """Return the message as a person reads it: what, why, who, and all of it."""
        told = [
            f"{self.id}  {self._header(TYPE_HEADER, 'of unknown type')}",
            f"  parked after {self._header(ATTEMPTS_HEADER, '?')} attempts:"
            f" {self._header(ERROR_HEADER, 'no error was noted')}",
            f"  published by {self.publisher or 'an unknown user'}",
        ]
        try:
            event = json.loads(self.message.body)
            return [*told, *_origin(event), _indented(json.dumps(event, indent=2))]
        except (ValueError, AttributeError, KeyError, TypeError):
            return [*told, _indented(repr(self.message.body))]


def _origin(event: dict[str, Any]) -> list[str]:
    data, actor = event["data"], event["data"].get("actor") or {}
    who = f"user {actor['user_id']}" if actor.get("user_id") else actor.get("role", "nobody")
    return [
        f"  {data.get('action')} of {event.get('subject')}, organization"
        f" {data.get('organization_id')}, by {who} at {event.get('time')},"
        f" request {data.get('correlation_id')}"
    ]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


@app.command("list")
def list_queues(
    queues: Annotated[
        list[str] | None, typer.Argument(help="Queues; all that the services know, if none.")
    ] = None,
) -> None:
    """Tell how many messages are parked for each queue."""
    counts = _run(_counts(queues or known_queues()))
    for queue, count in counts.items():
        print(f"{queue:<28} {'does not exist yet' if count is None else count}")


@app.command()
def show(
    queue: QueueName,
    ids: Ids = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
) -> None:
    """Print parked messages with the error that parked them. They stay where they are."""
    shown = _run(_texts(queue, set(ids or ()), limit))
    print("\n\n".join(shown) if shown else f"Nothing is parked for {queue}.")


@app.command()
def replay(
    queue: QueueName,
    ids: Ids = None,
    everything: All = False,
    vouch: Annotated[
        bool,
        typer.Option(
            "--vouch",
            help="Count messages that name no user as genuine: those of a version without users.",
        ),
    ] = False,
) -> None:
    """Give parked messages back to their queue, to be handled as if for the first time."""
    give_back = _vouch_and_give_back if vouch else _give_back
    count = _run(_settle(queue, _chosen(ids, everything), give_back))
    print(f"{count} given back to {queue}.")


@app.command()
def drop(queue: QueueName, ids: Ids = None, everything: All = False) -> None:
    """Delete parked messages for good."""
    count = _run(_settle(queue, _chosen(ids, everything), _forget))
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
            f"The broker did not do it: {str(error) or type(error).__name__}.",
            "Nothing is lost; check that the system runs, and repeat the command.",
        ) from error


def _chosen(ids: list[str] | None, everything: bool) -> Callable[[Parked], bool]:
    if bool(ids) == everything:
        raise StartError("It is not said which messages.", "Give ids, or --all.")
    wanted = set(ids or ())
    return lambda parked: everything or parked.id in wanted


def known_queues() -> list[str]:
    """Return the names of the queues that the services consume."""
    found: set[str] = set()
    for service in SERVICES:
        for room in ("handlers", "worker"):
            found.update(queue.name for queue in _queues_of(f"services.{service}.{room}"))
    return sorted(found)


def _queues_of(module: str) -> list[bus.Queue]:
    try:
        loaded: ModuleType = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return []  # A service that consumes nothing has no such room.
    return [queue for value in vars(loaded).values() for queue in _queues_in(value)]


def _queues_in(value: Any) -> Iterable[bus.Queue]:
    if isinstance(value, bus.Queue):
        return [value]
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return [item for item in value if isinstance(item, bus.Queue)]
    return []


def broker_url() -> str:
    """Return the operator's address of the broker: OPERATOR_RABBITMQ_URL, or the running stack's.

    Raises StartError when there is neither.
    """
    variable = access.url_variable(OPERATOR)
    given = os.environ.get(variable)
    if given and bus.user_of(given) != OPERATOR:
        raise StartError(
            f"{variable} signs in as '{bus.user_of(given)}'.",
            f"Consumers believe the user '{OPERATOR}' alone: what another gives back, they park.",
        )
    if given:
        return given
    described = description_of(
        StackSettings.from_environment(),
        otherwise=f"Start one with `make run`, or set {variable} to the broker's address, as in"
        f" amqp://{OPERATOR}:password@host:5672/",
    )
    return str(described["operator_rabbitmq_url"])


@asynccontextmanager
async def _channel() -> AsyncIterator[AbstractChannel]:
    async with bus.connected(broker_url(), name="carnet dead-letters") as connection:
        yield await bus.publishing_channel(connection)


async def _counts(queues: Iterable[str]) -> dict[str, int | None]:
    async with bus.connected(broker_url(), name="carnet dead-letters") as connection:
        return {queue: await _count(connection, queue) for queue in queues}


async def _count(connection: AbstractConnection, queue: str) -> int | None:
    # A queue that does not exist costs the channel.
    channel = await connection.channel()
    try:
        declared = await channel.declare_queue(queue + bus.DEAD_SUFFIX, passive=True)
    except ChannelNotFoundEntity:
        return None
    return declared.declaration_result.message_count or 0


async def _parked(channel: AbstractChannel, queue: str) -> AsyncIterator[Parked]:
    """Yield what is parked now, each message once: what we do not settle stays taken by us.

    Closing the channel gives it back.
    """
    dead = await channel.declare_queue(queue + bus.DEAD_SUFFIX, passive=True)
    for _ in range(dead.declaration_result.message_count or 0):
        message = await dead.get(fail=False)
        if message is None:
            return
        yield Parked(message, queue)


async def _texts(queue: str, ids: set[str], limit: int) -> list[str]:
    shown: list[str] = []
    async with _channel() as channel:
        async for parked in _parked(channel, queue):
            if not ids or parked.id in ids:
                shown.append("\n".join(parked.lines()))
            if len(shown) == limit:
                break
    return shown


Settle = Callable[[AbstractChannel, str, Parked], Coroutine[Any, Any, None]]


async def _settle(queue: str, chosen: Callable[[Parked], bool], settle: Settle) -> int:
    count = 0
    async with _channel() as channel:
        async for parked in _parked(channel, queue):
            if chosen(parked):
                await settle(channel, queue, parked)
                count += 1
    return count


async def _give_back(channel: AbstractChannel, queue: str, parked: Parked) -> None:
    """Publish to the queue alone, and remove the parked one only when the broker has the other."""
    await _publish_again(channel, queue, parked, parked.headers(vouch=False))


async def _vouch_and_give_back(channel: AbstractChannel, queue: str, parked: Parked) -> None:
    """Do the same, and let a message that names no user count as genuine."""
    await _publish_again(channel, queue, parked, parked.headers(vouch=True))


async def _publish_again(
    channel: AbstractChannel, queue: str, parked: Parked, headers: Mapping[str, Any]
) -> None:
    message = parked.message
    copy = bus.persistent(message.body, message.message_id or "", headers, user=OPERATOR)
    exchange = await channel.get_exchange(service_in(queue) + bus.QUEUES_SUFFIX, ensure=False)
    await bus.publish(exchange, queue, copy)
    await message.ack()


async def _forget(_channel: AbstractChannel, _queue: str, parked: Parked) -> None:
    await parked.message.ack()
