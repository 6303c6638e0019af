"""Messages whose handling failed: a copy waits for the next attempt, or is parked."""

from collections.abc import Mapping
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from shared import bus
from shared.bus import Queue
from shared.events import AnEvent
from shared.message_buffer import ReceivedMessage
from shared.publishers import PUBLISHER_HEADER, TYPE_HEADER, ForgedMessage, publisher_of
from shared.telemetry import FORGED

log = structlog.get_logger(__name__)

ATTEMPTS_HEADER = "x-carnet-attempts"
ERROR_HEADER = "x-carnet-error"


async def send_copy(
    channel: AbstractChannel,
    queue: Queue,
    received: ReceivedMessage[AnEvent],
    error: Exception,
    *,
    user: str,
) -> str:
    """Copy a message to the retry queue, or to the dead letters if no attempt is left.

    `user` is ours: the broker verifies that we sign the copy; its headers name the original
    publisher. Returns "retried" or "parked".
    """
    message, id_ = received.message, received.message.header.properties.message_id
    if isinstance(error, ForgedMessage):
        FORGED.labels(queue.name).inc()
        log.critical("message_forged", queue=queue.name, event_id=id_, user=received.user)
    attempts = _attempts_of(received.headers) + 1
    hopeless = attempts >= bus.MAX_ATTEMPTS or isinstance(error, ValidationError | ForgedMessage)
    outcome, target = ("parked", queue.dead) if hopeless else ("retried", queue.retry)
    log.error(
        f"message_{outcome}", queue=queue.name, event_id=id_, attempts=attempts, exc_info=error
    )
    headers = {
        TYPE_HEADER: received.headers.get(TYPE_HEADER, message.routing_key),
        PUBLISHER_HEADER: publisher_of(received.user, received.headers, owner=queue.service) or "",
        ATTEMPTS_HEADER: attempts,
        ERROR_HEADER: _error_line(error),
    }
    copy = bus.persistent_message(message.body, id_ or "", headers, user=user)
    exchange = await channel.get_exchange(queue.exchange, ensure=False)
    await bus.publish(exchange, target, copy)
    return outcome


def _attempts_of(headers: Mapping[str, Any]) -> int:
    """Return how many attempts a message has had; 0 if the header is not a plausible number."""
    value = headers.get(ATTEMPTS_HEADER, 0)
    return value if isinstance(value, int) and 0 <= value < bus.MAX_ATTEMPTS else 0


def _error_line(error: Exception) -> str:
    """Return an error on one line of at most 300 characters, for the operator."""
    # The driver's text: SQLAlchemy's has every parameter of the statement.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    line = next(iter(str(cause).splitlines()), "")
    return f"{type(error).__name__}: {line}"[:300]
