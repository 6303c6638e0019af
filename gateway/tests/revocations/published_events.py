"""Publishing revocation events, and waiting for what a gateway makes of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractExchange
from uuid_utils import uuid7

from gateway.tests.conftest import (
    Stack,
    bearer,
    broker_url,
)
from shared import bus
from shared.events import Event
from shared.publishers import service_in
from shared.testing import until
from shared.tests.messages import message_of


@asynccontextmanager
async def publisher() -> AsyncIterator[AbstractExchange]:
    async with bus.connected(broker_url(), name="test") as broker:
        yield await bus.events_exchange(await broker.channel())


async def publish(
    exchange: AbstractExchange,
    event_type: str,
    entity: tuple[str, int],
    new_values: dict[str, Any],
    old_values: dict[str, Any] | None = None,
    *,
    version: int = 2,
    user: str | None = "",
) -> None:
    """Publish an event as its service's relay does, or in the name of another user or of none."""
    event = Event.model_validate(
        {
            "id": str(uuid7()),
            "source": f"carnet/{service_in(event_type)}",
            "type": event_type,
            "time": "2026-01-01T00:00:00Z",
            "subject": f"{entity[0]}/{entity[1]}",
            "data": {
                "action": "TEST",
                "entity_type": entity[0],
                "entity_id": entity[1],
                "entity_version": version,
                "organization_id": 3,
                "actor": {},
                "correlation_id": "test-0001",
                "old_values": old_values or {},
                "new_values": new_values,
            },
        }
    )
    message = message_of(event)
    if user != "":
        message.user_id = user
    await bus.publish(exchange, event_type, message)


async def status(stack: Stack, access_token: str) -> int:
    return (await stack.client.get("/api/vouchers/1", headers=bearer(access_token))).status_code


async def becomes(stack: Stack, access_token: str, expected: int, within: float = 30.0) -> None:
    """Wait until a token's requests are answered so; fails after `within` seconds."""
    deadline = time.monotonic() + within
    found = await status(stack, access_token)
    while found != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        found = await status(stack, access_token)
    assert found == expected


async def listening(*stacks: Stack) -> None:
    """Wait until the gateways have bound their queues and read the list afterwards."""
    await until(lambda: all(stack.gateway.revocation_feed.listening for stack in stacks))
