"""Who published a message, as far as the broker vouches for it.

The broker compares the `user_id` of a message with the user who is signed in
(https://www.rabbitmq.com/docs/validated-user-id), and its topic permissions keep each service to
its own routing keys. They do not cover every way into a queue: a message may name further routing
keys in its headers, and may come through a binding between exchanges. So every consumer compares,
too, and what does not fit never reaches a handler.
"""

from collections.abc import Mapping
from typing import Any, Protocol

OPERATOR = "operator"
"""The broker's user for replaying dead letters."""
PUBLISHER_HEADER = "x-carnet-publisher"
"""Header of a copy: who published the original. Trusted only from a queue's own service and from
the operator."""
TYPE_HEADER = "x-carnet-type"
"""The routing key with which a copied message was published first."""


class ForgedMessage(Exception):
    """A message's event is not one of the user who published the message."""


class Claim(Protocol):
    """What an event says of its origin."""

    @property
    def type(self) -> str:
        """The event's type: `<service>.<entity>.<what happened>.<version>`."""

    @property
    def source(self) -> str:
        """The event's source: `carnet/<service>`."""


def service_in(name: str) -> str:
    """Return the service that a queue's or an event type's name begins with."""
    return name.partition(".")[0]


def publisher_of(user: str | None, headers: Mapping[str, Any], *, owner: str) -> str | None:
    """Return who published a message in a queue of `owner`; None when it is not known.

    A retried or replayed message is a copy, published by the queue's own service or by the
    operator, who name the original publisher in a header.
    """
    if user in (owner, OPERATOR) and PUBLISHER_HEADER in headers:
        return str(headers[PUBLISHER_HEADER]) or None
    return user


def require_publisher(
    event: Claim, user: str | None, routing_key: str, headers: Mapping[str, Any], *, owner: str
) -> None:
    """Raise ForgedMessage unless a message's event belongs to the message's publisher."""
    publisher = publisher_of(user, headers, owner=owner)
    if publisher is None:
        raise ForgedMessage(f"{event.type} was published without its user's name")
    if service_in(event.type) != publisher or event.source.rpartition("/")[2] != publisher:
        raise ForgedMessage(f"{event.type} of {event.source} was published by {publisher}")
    if user not in (owner, OPERATOR) and routing_key != event.type:
        raise ForgedMessage(f"{event.type} was published with the routing key {routing_key}")
