"""Events and queues for the tests of relay and consumer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from uuid_utils import uuid7

from shared import bus
from shared.bus import Queue
from shared.db import now
from shared.events import Event
from shared.publishers import service_in

QUEUE = Queue("sample.things", ("sample.#",))


def event(entity_id: int = 1, version: int = 1, **new_values: Any) -> Event:
    """Return an event of the sample's."""
    return Event.model_validate(
        {
            "id": str(uuid7()),
            "source": "carnet/sample",
            "type": "sample.thing.updated.v1",
            "time": now(),
            "subject": f"thing/{entity_id}",
            "data": {
                "action": "UPDATE",
                "entity_type": "thing",
                "entity_id": entity_id,
                "entity_version": version,
                "organization_id": 7,
                "actor": {},
                "correlation_id": "request-1",
                "old_values": {},
                "new_values": new_values,
            },
        }
    )


class Loop(Protocol):
    """A relay or a consumer."""

    async def run(self) -> None:
        """Work until cancelled."""


async def forget_queues(channel: AbstractChannel, *names: str) -> None:
    """Delete queues that earlier tests left behind."""
    for name in names:
        for queue in (name, name + bus.DEAD_SUFFIX, name + bus.RETRY_SUFFIX):
            await channel.queue_delete(queue)


def outgoing(event: Event) -> bus.Outgoing:
    """Return an event's message, in the name of the service that its type names."""
    body = event.model_dump_json().encode()
    return bus.Outgoing(event.type, event.id, body, service_in(event.type))


def message_of(event: Event) -> Message:
    """Return the same for a channel that publishes message by message."""
    one = outgoing(event)
    return bus.persistent_message(one.body, one.message_id, user=one.user)


async def send(channel: AbstractChannel, *events: Event) -> None:
    """Publish events as the relays of their services do."""
    messages = [outgoing(e) for e in events]
    assert not any(await bus.publish_all(channel, messages))


async def waiting(channel: AbstractChannel, name: str) -> int:
    """Return how many messages a queue holds ready."""
    declared = await channel.declare_queue(name, passive=True)
    return declared.declaration_result.message_count or 0


@asynccontextmanager
async def running(*loops: Loop) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run relays or consumers beside the block."""
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=10)
