"""The relay: publishes the events of the outbox in order, and deletes those that are confirmed."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

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
from shared.throttle import Throttle

log = structlog.get_logger(__name__)

BATCH = 500
INTERVAL_SECONDS = 0.02
"""Batches begin once in this time on average at most, so that batches form under load."""
POLL_SECONDS = 1.0
STANDBY_SECONDS = 1.0
RESTART_SECONDS = 1.0
SETUP_SECONDS = 5.0
LISTENERS_SECONDS = 0.5
QUERY_TIMEOUT = 10.0

_SELECT = (
    "SELECT id, event_id, type, body, created_at FROM outbox"
    " WHERE id <> ALL($1::bigint[]) ORDER BY id LIMIT $2"
)
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
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self.name = name
        self.database_url = database_url
        self.rabbitmq_url = rabbitmq_url
        self.user = bus.user_of(rabbitmq_url)
        self.listeners = listeners
        self.poll_seconds = poll_seconds
        self.interval_seconds = interval_seconds
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
            # Events whose deletion is lost in a crash of the server are published again. A write to
            # the disk for each deletion would delay all other commits.
            await connection.execute("SET synchronous_commit = off")
            async with bus.connected(self.rabbitmq_url, name=f"{self.name} relay") as broker:
                async with asyncio.timeout(SETUP_SECONDS):
                    channel = await bus.publishing_channel(broker)
                await self._wait_for_listeners(channel)
                self.working = True
                RELAY_ACTIVE.set(1)
                log.info("relay_leads")
                await _Pump(
                    connection,
                    channel,
                    user=self.user,
                    poll_seconds=self.poll_seconds,
                    interval=self.interval_seconds,
                ).run()
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """Events that were written to the broker's connection."""

    rows: Sequence[asyncpg.Record]
    outcomes: asyncio.Task[list[BaseException | None]]


class _Pump:
    """Publishes what is in the outbox over one connection to the database and one channel.

    A batch is published while those before it wait for their confirmations, which take the broker a
    write to its disk. At most BATCH events are unconfirmed.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        channel: AbstractChannel,
        *,
        user: str,
        poll_seconds: float,
        interval: float,
    ) -> None:
        self._connection, self._channel = connection, channel
        self._user = user
        self._poll_seconds = poll_seconds
        self._throttle = Throttle(interval)
        self._unconfirmed: deque[_Batch] = deque()
        self._select_at = 0.0
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Publish until cancelled. Raises NotConfirmed, or an error of the database or broker."""
        schema = await self._connection.fetchval("SELECT current_schema()")
        await self._connection.add_listener(f"{NOTIFY_CHANNEL}_{schema}", self._on_notification)
        try:
            while True:
                self._wake.clear()
                await self._delete_confirmed()
                room = BATCH - sum(len(batch.rows) for batch in self._unconfirmed)
                pause = self._pause() if room else None
                if pause is not None and pause <= 0:
                    await self._publish(room)
                    continue
                # Not wait_for: in Python 3.11 it may lose a cancellation at the time of the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            for batch in self._unconfirmed:
                batch.outcomes.cancel()

    def _on_notification(self, *_: object) -> None:
        self._select_at = 0.0
        self._wake.set()

    def _pause(self) -> float:
        """Return the seconds until the outbox is to be read; not above zero if it is now."""
        return max(self._select_at - time.monotonic(), self._throttle.pause())

    async def _publish(self, room: int) -> None:
        """Publish the next events, at most `room` of them."""
        # Before the statement: a notification during it may be of an event that it does not see.
        self._select_at = time.monotonic() + self._poll_seconds
        # Not the ids above the last one: a transaction may end after one with higher ids.
        sent_ids = [row["id"] for batch in self._unconfirmed for row in batch.rows]
        rows = await self._connection.fetch(_SELECT, sent_ids, room)
        if not rows:
            return
        failpoint("relay.claimed")
        if len(rows) < room:
            self._throttle.count()
        else:
            self._select_at = 0.0
        messages = [
            bus.Outgoing(row["type"], row["event_id"], row["body"].encode(), self._user)
            for row in rows
        ]
        outcomes = await bus.write_all(self._channel, messages)
        outcomes.add_done_callback(lambda _: self._wake.set())
        self._unconfirmed.append(_Batch(rows, outcomes))

    async def _delete_confirmed(self) -> None:
        """Delete the events before the first one that is not confirmed.

        The events after an unconfirmed one are sent again with it, so that no later change of an
        entity is published before an earlier one. The inboxes ignore the repetition.
        """
        rows_to_delete: list[asyncpg.Record] = []
        failure = None
        while failure is None and self._unconfirmed and self._unconfirmed[0].outcomes.done():
            batch = self._unconfirmed.popleft()
            for row, outcome in zip(batch.rows, batch.outcomes.result(), strict=True):
                if outcome is not None:
                    failure = f"{row['type']}: {outcome!r}"
                    break
                rows_to_delete.append(row)
        if rows_to_delete:
            failpoint("relay.confirmed")
            await self._connection.execute(_DELETE, [row["id"] for row in rows_to_delete])
            failpoint("relay.marked")
            _count(rows_to_delete)
        if failure is not None:
            raise NotConfirmed(failure)


def _count(rows: Sequence[asyncpg.Record]) -> None:
    """Count published events in the metrics."""
    moment = now()
    for kind, number in Counter(row["type"] for row in rows).items():
        PUBLISHED.labels(kind).inc(number)
    for row in rows:
        PUBLISH_LAG.observe((moment - row["created_at"]).total_seconds())
