"""Delivers events to webhook endpoints, each until it is accepted or too old.

https://docs.stripe.com/webhooks#automatic-retries: any answer but 2xx is a failure, the pauses
grow, and the order is not that of the events.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

import httpx
import orjson

from deploy.local.card_gateway.call import PLATFORM, public
from deploy.local.card_gateway.store import Resource, Store
from deploy.local.card_gateway.webhooks import signature

CONCURRENT = 16
ANSWERS_WITHIN = 10.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
GIVE_UP_SECONDS = 3 * 86_400
_IDLE_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """An event for one endpoint. `attempts` is the number of those that failed."""

    number: int
    event: str
    endpoint: str
    attempts: int


class Courier:
    """The deliveries of a store. `transport` replaces the network."""

    def __init__(self, store: Store, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._store = store
        self._client = httpx.AsyncClient(transport=transport, timeout=ANSWERS_WITHIN)
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Look for new deliveries soon."""
        self._changed.set()

    async def run(self) -> None:
        """Deliver for ever."""
        try:
            while True:
                self._changed.clear()
                for delivery in self._due():
                    task = asyncio.create_task(self._deliver(delivery))
                    self._in_flight[delivery.number] = task
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds_until_due()):
                        await self._changed.wait()
        finally:
            for task in self._in_flight.values():
                task.cancel()
            await self._client.aclose()

    def _due(self) -> list[Delivery]:
        """Return the next deliveries that are due and not in flight."""
        rows = self._store.connection.execute(
            "SELECT id, event, endpoint, attempts FROM deliveries WHERE due <= ? ORDER BY due"
            " LIMIT ?",
            (time.time(), CONCURRENT),
        )
        waiting = [Delivery(*row) for row in rows if row[0] not in self._in_flight]
        return waiting[: CONCURRENT - len(self._in_flight)]

    def _seconds_until_due(self) -> float:
        if len(self._in_flight) >= CONCURRENT:
            return _IDLE_SECONDS
        now = time.time()
        query = "SELECT min(due) FROM deliveries WHERE due > ?"
        [due] = self._store.connection.execute(query, (now,)).fetchone()
        return _IDLE_SECONDS if due is None else min(_IDLE_SECONDS, due - now)

    async def _deliver(self, delivery: Delivery) -> None:
        book = self._store.book_of(delivery.event) or PLATFORM
        event = self._store.find(book, "event", delivery.event)
        endpoint = self._store.find(PLATFORM, "webhook_endpoint", delivery.endpoint)
        try:
            is_wanted = endpoint is not None and endpoint["status"] == "enabled"
            if event and endpoint and is_wanted and not await self._post(endpoint, event):
                self._postpone(delivery, event)
            else:
                self._drop(delivery)
        finally:
            del self._in_flight[delivery.number]
            self.wake()

    async def _post(self, endpoint: Resource, event: Resource) -> bool:
        """Send an event; return whether it was accepted."""
        body = orjson.dumps(public(event) | {"pending_webhooks": 1})
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(endpoint["_secret"], int(time.time()), body),
        }
        try:
            answer = await self._client.post(endpoint["url"], content=body, headers=headers)
        except httpx.HTTPError as error:
            logger.info("%s not delivered: %s", event["type"], type(error).__name__)
            return False
        logger.info("%s delivered: %d", event["type"], answer.status_code)
        return answer.is_success

    def _drop(self, delivery: Delivery) -> None:
        query = "DELETE FROM deliveries WHERE id = ?"
        self._store.connection.execute(query, (delivery.number,))

    def _postpone(self, delivery: Delivery, event: Resource) -> None:
        now = time.time()
        if now - event["created"] > GIVE_UP_SECONDS:
            logger.warning("%s was given up", event["id"])
            self._drop(delivery)
            return
        pause = min(FIRST_PAUSE_SECONDS * 2**delivery.attempts, LONGEST_PAUSE_SECONDS)
        self._store.connection.execute(
            "UPDATE deliveries SET attempts = attempts + 1, due = ? WHERE id = ?",
            (now + pause, delivery.number),
        )
