"""The relay: publishes the events of the outbox in order, and deletes those that are confirmed."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence

import asyncpg
import structlog
from aio_pika.abc import AbstractChannel
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from shared import bus
from shared.db import now
from shared.failpoints import failpoint
from shared.outbox import NOTIFY_CHANNEL
from shared.telemetry import OUTBOX_FAILURES, PUBLISH_LAG, PUBLISHED, RELAY_ACTIVE

log = structlog.get_logger(__name__)

BATCH = 500
PACE_SECONDS = 0.01
"""A lonely event is published at once, the next batch not before this time has passed, so that
batches form under load."""
POLL_SECONDS = 1.0
STANDBY_SECONDS = 1.0
RESTART_SECONDS = 1.0
SETUP_SECONDS = 5.0
LISTENERS_SECONDS = 0.5
QUERY_TIMEOUT = 10.0

_SELECT = "SELECT id, event_id, type, body, created_at FROM outbox ORDER BY id LIMIT $1"
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_LEAD = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '.outbox', 0))"


class NotConfirmed(RuntimeError):
    """The broker did not confirm an event. It remains in the outbox and is sent again."""


def plain_dsn(url: SecretStr) -> str:
    """Return a database URL in asyncpg's form."""
    parsed = make_url(url.get_secret_value()).set(drivername="postgresql")
    return parsed.render_as_string(hide_password=False)


class OutboxRelay:
    """Publishes a service's outbox. Of all its workers, the one with the advisory lock does.

    No event is published before each of the queues `listeners` is declared and bound: on a new
    broker the broker would confirm an event that only some of the queues receive.
    """

    def __init__(
        self,
        name: str,
        database_url: SecretStr,
        rabbitmq_url: SecretStr,
        *,
        listeners: Sequence[str] = (),
        poll_seconds: float = POLL_SECONDS,
        pace_seconds: float = PACE_SECONDS,
    ) -> None:
        self.name = name
        self.database_url = database_url
        self.rabbitmq_url = rabbitmq_url
        self.user = bus.user_of(rabbitmq_url)
        self.listeners = listeners
        self.poll_seconds = poll_seconds
        self.pace_seconds = pace_seconds
        self.working = False

    async def run(self) -> None:
        """Relay until cancelled. After any error, connect again."""
        while True:
            try:
                await self._lead()
            except (Exception, asyncio.CancelledError) as error:
                bus.raise_if_cancelled(error)
                OUTBOX_FAILURES.inc()
                log.warning("relay_interrupted", cause=repr(error))
            finally:
                self.working = False
                RELAY_ACTIVE.set(0)
            await asyncio.sleep(RESTART_SECONDS)

    async def _lead(self) -> None:
        connection = await asyncpg.connect(
            plain_dsn(self.database_url), timeout=5, command_timeout=QUERY_TIMEOUT
        )
        try:
            while not await connection.fetchval(_LEAD):  # noqa: ASYNC110 - a lock sends no event
                await asyncio.sleep(STANDBY_SECONDS)
            async with bus.connected(self.rabbitmq_url, name=f"{self.name} relay") as broker:
                async with asyncio.timeout(SETUP_SECONDS):
                    channel = await bus.publishing_channel(broker)
                await self._wait_for_listeners(channel)
                self.working = True
                RELAY_ACTIVE.set(1)
                log.info("relay_leads")
                await self._pump(connection, channel)
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=2)

    async def _wait_for_listeners(self, channel: AbstractChannel) -> None:
        for queue in self.listeners:
            attempts = 0
            while True:
                async with asyncio.timeout(SETUP_SECONDS):
                    if await bus.is_declared(channel, queue, user=self.user):
                        break
                if not attempts:
                    log.warning("relay_waits", queue=queue)
                attempts += 1
                await asyncio.sleep(LISTENERS_SECONDS)

    async def _pump(self, connection: asyncpg.Connection, channel: AbstractChannel) -> None:
        notification = asyncio.Event()
        schema = await connection.fetchval("SELECT current_schema()")
        await connection.add_listener(f"{NOTIFY_CHANNEL}_{schema}", lambda *_: notification.set())
        while True:
            notification.clear()
            rows = await connection.fetch(_SELECT, BATCH)
            if rows:
                failpoint("relay.claimed")
                begun = time.monotonic()
                await self._send(connection, channel, rows)
                if len(rows) < BATCH and (rest := begun + self.pace_seconds - time.monotonic()) > 0:
                    await asyncio.sleep(rest)
            if len(rows) < BATCH:
                # Not wait_for: in Python 3.11 it may lose a cancellation at the time of the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_seconds):
                        await notification.wait()

    async def _send(
        self,
        connection: asyncpg.Connection,
        channel: AbstractChannel,
        rows: Sequence[asyncpg.Record],
    ) -> None:
        """Publish a batch, and delete the events before the first one that is not confirmed.

        The events after an unconfirmed one are sent again with it, so that no later change of an
        entity is published before an earlier one. The inboxes ignore the repetition.
        """
        messages = [
            bus.Outgoing(row["type"], row["event_id"], row["body"].encode(), self.user)
            for row in rows
        ]
        outcomes = await bus.publish_all(channel, messages)
        count = next((place for place, outcome in enumerate(outcomes) if outcome), len(rows))
        deletable = rows[:count]
        failpoint("relay.confirmed")
        await connection.execute(_DELETE, [row["id"] for row in deletable])
        failpoint("relay.marked")
        moment = now()
        for kind, number in Counter(row["type"] for row in deletable).items():
            PUBLISHED.labels(kind).inc(number)
        for row in deletable:
            PUBLISH_LAG.observe((moment - row["created_at"]).total_seconds())
        if count < len(rows):
            raise NotConfirmed(f"{rows[count]['type']}: {outcomes[count]!r}")
