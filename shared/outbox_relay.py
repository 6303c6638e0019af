"""The relay: takes events from the outbox to the broker, in order, removing what it confirmed."""

import asyncio
import contextlib
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
    """The broker did not confirm an event; it stays in the outbox and is sent again."""


def plain_dsn(url: SecretStr) -> str:
    """Return the URL as asyncpg itself takes it."""
    parsed = make_url(url.get_secret_value()).set(drivername="postgresql")
    return parsed.render_as_string(hide_password=False)


class OutboxRelay:
    """One per worker; only the one that holds the advisory lock is at work, the others stand by.

    No event leaves before each of the queues `listeners` is declared and bound: on a fresh broker
    one that is bound already would hide from us that another does not hear yet.
    """

    def __init__(
        self,
        name: str,
        database_url: SecretStr,
        rabbitmq_url: SecretStr,
        *,
        listeners: Sequence[str] = (),
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.name = name
        self.database_url = database_url
        self.rabbitmq_url = rabbitmq_url
        self.user = bus.user_of(rabbitmq_url)
        self.listeners = listeners
        self.poll_seconds = poll_seconds
        self.working = False

    async def run(self) -> None:
        """Relay until cancelled; whatever breaks, start over after a moment."""
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
            waits = False
            while await self._is_missing(channel, queue):
                if not waits:
                    log.warning("relay_waits", queue=queue)
                waits = True
                await asyncio.sleep(LISTENERS_SECONDS)

    async def _is_missing(self, channel: AbstractChannel, queue: str) -> bool:
        async with asyncio.timeout(SETUP_SECONDS):
            return not await bus.is_declared(channel, queue, user=self.user)

    async def _pump(self, connection: asyncpg.Connection, channel: AbstractChannel) -> None:
        woken = asyncio.Event()
        schema = await connection.fetchval("SELECT current_schema()")
        await connection.add_listener(f"{NOTIFY_CHANNEL}_{schema}", lambda *_: woken.set())
        while True:
            woken.clear()
            rows = await connection.fetch(_SELECT, BATCH)
            if rows:
                failpoint("relay.claimed")
                await self._send(connection, channel, rows)
            if len(rows) < BATCH:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_seconds):
                        await woken.wait()

    def _outgoing(self, row: asyncpg.Record) -> bus.Outgoing:
        return bus.Outgoing(row["type"], row["event_id"], row["body"].encode(), self.user)

    async def _send(
        self,
        connection: asyncpg.Connection,
        channel: AbstractChannel,
        rows: Sequence[asyncpg.Record],
    ) -> None:
        """Publish a batch and delete what was confirmed up to the first that was not.

        What stands behind an unconfirmed event is sent again with it, so that no later change of
        an entity stays ahead of an earlier one; the inboxes drop the repetition.
        """
        outcomes = await bus.publish_all(
            channel,
            [self._outgoing(row) for row in rows],
        )
        failed = next((i for i, outcome in enumerate(outcomes) if outcome), len(rows))
        confirmed = rows[:failed]
        failpoint("relay.confirmed")
        await connection.execute(_DELETE, [row["id"] for row in confirmed])
        failpoint("relay.marked")
        moment = now()
        for kind, number in Counter(row["type"] for row in confirmed).items():
            PUBLISHED.labels(kind).inc(number)
        for row in confirmed:
            PUBLISH_LAG.observe((moment - row["created_at"]).total_seconds())
        if failed < len(rows):
            raise NotConfirmed(f"{rows[failed]['type']}: {outcomes[failed]!r}")
