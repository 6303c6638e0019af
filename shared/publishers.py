"""The publisher of a message, as far as the broker verifies it.

The broker compares the `user_id` of a message with the user who is signed in
(https://www.rabbitmq.com/docs/validated-user-id), and its topic permissions keep each service to
its own routing keys. They do not cover every path into a queue: a message may have further routing
keys in its headers, and may be routed by a binding between exchanges. So every consumer compares
too, and a message that does not match is not handled.
"""

from collections.abc import Mapping
from typing import Any, Protocol

OPERATOR = "operator"
"""The broker's user for replaying dead letters."""
PUBLISHER_HEADER = "x-carnet-publisher"
"""Header of a copied message: the original publisher. Trusted only if the copy was published by the
queue's own service or the operator."""
TYPE_HEADER = "x-carnet-type"
"""Header of a copied message: the routing key of the original."""


class ForgedMessage(Exception):
    """The event in a message does not belong to the user who published the message."""


class SourcedEvent(Protocol):
    """An event with the properties that name its publisher."""

    @property
    def type(self) -> str:
        """The event's type: `<service>.<entity>.<what happened>.<version>`."""

    @property
    def source(self) -> str:
        """The event's source: `carnet/<service>`."""


def service_in(name: str) -> str:
    """Return the service in the name of a queue or an event type."""
    return name.partition(".")[0]


def publisher_of(user: str | None, headers: Mapping[str, Any], *, owner: str) -> str | None:
    """Return the publisher of a message in a queue of `owner`; None if it is unknown.

    A retried or replayed message is a copy that the queue's own service or the operator has
    published; its header names the original publisher.
    """
    if user in (owner, OPERATOR) and PUBLISHER_HEADER in headers:
        return str(headers[PUBLISHER_HEADER]) or None
    return user


def require_publisher(
    event: SourcedEvent,
    user: str | None,
    routing_key: str,
    headers: Mapping[str, Any],
    *,
    owner: str,
) -> None:
    """Raise ForgedMessage unless the event in a message belongs to the message's publisher."""
    publisher = publisher_of(user, headers, owner=owner)
    if publisher is None:
        raise ForgedMessage(f"{event.type} was published without its user's name")
    if service_in(event.type) != publisher or event.source.rpartition("/")[2] != publisher:
        raise ForgedMessage(f"{event.type} of {event.source} was published by {publisher}")
    if user not in (owner, OPERATOR) and routing_key != event.type:
        raise ForgedMessage(f"{event.type} was published with the routing key {routing_key}")
