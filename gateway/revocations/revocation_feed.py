"""Keeps the revocations of a gateway current: from the broker's events and from identity's list.

The list is fetched after the queue is bound, so that no revocation is missed. From then on events
arrive within milliseconds, and the list is fetched every ten seconds, for events that never reach
the broker. The queue outlives a lost connection for two minutes, so that a gateway that reconnects
needs no list from an identity that may be overloaded. Without the broker, the list is fetched every
second. A gateway with neither of the two accepts no token after a while (RevocationStore).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from pydantic import Field, SecretStr, ValidationError
from uuid_utils import uuid7

from gateway.revocations.revocation_store import Clock, RevocationStore
from shared import bus, lasting_queues
from shared.events import Event
from shared.fields import KeyId, ServiceData
from shared.publishers import ForgedMessage, require_publisher
from shared.shapes import EventReading, EventReadings
from shared.telemetry import FORGED

log = structlog.get_logger(__name__)

OWNER = "gateway"
QUEUE = f"{OWNER}.revocations"
QUEUE_LIFETIME = 120.0  # seconds that the queue outlives its connection

BINDINGS = (
    "identity.user.*.v1",
    "identity.permission.*.v1",
    "organizations.organization.updated.v1",
    "organizations.organization.deactivated.v1",
)
# Seconds.
RECONNECT = 1.0
PROBE = 2.0
READ_WHILE_LISTENING = 10.0
READ_WHILE_DISCONNECTED = 1.0

FetchRevocationList = Callable[[], Awaitable[bytes | None]]
"""Fetches identity's list as JSON; returns None if that fails."""


class RevocationList(ServiceData):
    """Identity's list: what is revoked at this moment and has not expired."""

    revoked_sessions: list[str]
    users: dict[KeyId, float]
    organizations: list[int]
    organization_versions: dict[KeyId, int] = Field(default_factory=dict)
    """The version in which each was closed; an identity of an earlier version omits this field."""

    def apply_to(self, revocations: RevocationStore) -> None:
        """Add the list to the revocations."""
        revocations.end_sessions(self.revoked_sessions)
        for user_id, not_before in self.users.items():
            revocations.revoke_user_tokens_before(user_id, not_before)
        for organization_id in self.organizations:
            version = self.organization_versions.get(organization_id)
            revocations.close_organization(organization_id, version)


class ChangedValues(ServiceData):
    """The part of an event's new values that may revoke tokens; most events have none of it."""

    ended_sessions: list[str] = Field(default_factory=list)
    tokens_not_before: float | None = None
    is_active: bool | None = None


class PermissionHolder(ServiceData):
    """The user of a permission; a removed permission has it in the old values."""

    user_id: int


_CHANGED_VALUES = EventReading(ChangedValues)
READINGS: EventReadings = {
    "identity.user.updated.v1": _CHANGED_VALUES,
    "identity.user.deleted.v1": _CHANGED_VALUES,
    "identity.user.password_changed.v1": _CHANGED_VALUES,
    "identity.user.logged_out.v1": _CHANGED_VALUES,
    "identity.permission.granted.v1": _CHANGED_VALUES,
    "identity.permission.revoked.v1": EventReading(ChangedValues, old_values=PermissionHolder),
    "organizations.organization.updated.v1": _CHANGED_VALUES,
    "organizations.organization.deactivated.v1": _CHANGED_VALUES,
}


def apply_event(revocations: RevocationStore, event: Event) -> None:
    """Add the revocations of an event."""
    data, values = event.data, ChangedValues.model_validate(event.data.new_values)
    revocations.end_sessions(values.ended_sessions)
    if values.tokens_not_before is not None:
        if data.entity_type == "user" and data.entity_id is not None:
            user_id = data.entity_id
        else:
            user_id = PermissionHolder.model_validate(data.old_values | data.new_values).user_id
        revocations.revoke_user_tokens_before(user_id, values.tokens_not_before)
    if data.entity_type == "organization" and data.entity_id is not None:
        if values.is_active is False:
            revocations.close_organization(data.entity_id, data.entity_version)
        elif values.is_active is True:
            revocations.reopen_organization(data.entity_id, data.entity_version)


class RevocationFeed:
    """Keeps one gateway's revocations current while its `running` block lasts."""

    def __init__(
        self,
        revocations: RevocationStore,
        rabbitmq_url: SecretStr,
        fetch_list: FetchRevocationList,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._revocations = revocations
        self._rabbitmq_url = rabbitmq_url
        self._fetch_list = fetch_list
        self._clock = clock
        self.queue_name = f"{QUEUE}.{uuid7()}"
        self._queue_created_at: float | None = None  # when this gateway declared the queue
        self._list_applied = False  # the list was fetched after the queue was bound
        self._consuming = False
        self._list_requested = asyncio.Event()

    @property
    def listening(self) -> bool:
        """Whether events arrive, and the list of what preceded them was applied."""
        return self._consuming and self._list_applied

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Receive events and fetch the list in the background until the block ends."""
        tasks = [
            asyncio.ensure_future(self._listen_forever()),
            asyncio.ensure_future(self._read_list_forever()),
        ]
        try:
            yield
        finally:
            # Repeated, because the library may swallow a cancellation while the broker is frozen.
            pending = set(tasks)
            while pending:
                for task in pending:
                    task.cancel()
                _, pending = await asyncio.wait(pending, timeout=bus.CLOSE_TIMEOUT)

    async def _listen_forever(self) -> None:
        """Receive events until cancelled; after any failure, connect again in a moment."""
        while True:
            try:
                await self._listen()
            except (Exception, asyncio.CancelledError) as error:
                bus.raise_if_cancelled(error)
                log.warning("revocation_events_interrupted", cause=repr(error))
            finally:
                self._consuming = False
                self._list_requested.set()
            await asyncio.sleep(RECONNECT)

    async def _listen(self) -> None:
        """Receive events until the connection breaks. Raises what the broker's library raises."""
        async with bus.connected(self._rabbitmq_url, name=QUEUE) as connection:
            if not await bus.is_queue(connection, self.queue_name):
                # Events since the end of the last connection are lost: only the list has them.
                self._queue_created_at, self._list_applied = None, False
            queue = await lasting_queues.consume_lasting_queue(
                connection, self.queue_name, BINDINGS, self._handle, seconds=QUEUE_LIFETIME
            )
            if self._queue_created_at is None:
                self._queue_created_at = self._clock()
            self._consuming = True
            self._list_requested.set()
            while True:
                as_of = self._clock()
                # A connection can look alive for long after the broker froze.
                if await queue.is_drained() and self._list_applied:
                    self._revocations.confirm_current(as_of)
                await asyncio.sleep(PROBE)

    def _handle(self, message: lasting_queues.LastingMessage) -> None:
        """Apply one event; one that is forged or cannot be understood is only reported."""
        try:
            event = Event.model_validate_json(message.body)
            require_publisher(
                event, message.user, message.routing_key, message.headers, owner=OWNER
            )
            apply_event(self._revocations, event)
        except ForgedMessage as error:
            FORGED.labels(QUEUE).inc()
            log.critical(
                "message_forged",
                queue=QUEUE,
                event_id=message.id,
                user=message.user,
                cause=str(error),
            )
        except (ValidationError, KeyError, TypeError, ValueError):
            log.exception("revocation_event_not_understood", event_id=message.id)

    async def _read_list_forever(self) -> None:
        """Fetch the list until cancelled: at once when requested, else every few seconds."""
        while True:
            self._list_requested.clear()
            created_at = self._queue_created_at
            if (
                await self._apply_list()
                and created_at is not None
                and created_at == self._queue_created_at
            ):
                self._list_applied = True
            pause = READ_WHILE_LISTENING if self.listening else READ_WHILE_DISCONNECTED
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._list_requested.wait()

    async def _apply_list(self) -> bool:
        as_of = self._clock()
        try:
            body = await self._fetch_list()
            if body is None:
                return False
            RevocationList.model_validate_json(body).apply_to(self._revocations)
        except ValidationError as error:
            log.error("revocation_list_not_understood", cause=repr(error))
            return False
        except Exception:
            log.exception("revocation_list_not_read")
            return False
        self._revocations.confirm_current(as_of)
        return True
