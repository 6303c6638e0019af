"""Every consumer of the system: which events it receives and what it reads of them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import services.audit.handlers
import services.identity.handlers
import services.organizations.handlers
import services.payments.handlers
import services.vouchers.handlers
from gateway.revocations import revocation_feed
from services.payments.gateways import Gateways
from shared.bus import Queue
from shared.consumer import Queues
from shared.shapes import EventReadings


@dataclass(frozen=True)
class Reader:
    """One queue: its bindings, the event types that have a handler, and what is read of each.

    `handled` is None for a consumer that accepts every type. A queue that is not durable exists
    only as long as its process.
    """

    name: str
    bindings: tuple[str, ...]
    handled: frozenset[str] | None
    readings: EventReadings
    is_durable: bool = True

    def takes(self, kind: str) -> bool:
        """Return whether the broker sends it events of a type."""
        return any(matches(binding, kind) for binding in self.bindings)


def all_readers() -> list[Reader]:
    """Return every consumer."""
    vouchers, payments = services.vouchers.handlers, services.payments.handlers
    organizations = services.organizations.handlers
    identity, audit = services.identity.handlers, services.audit.handlers
    return [
        *_readers(vouchers.QUEUES, vouchers.READINGS),
        *_readers(payments.queues_of(Gateways({})), payments.READINGS),
        *_readers(identity.QUEUES, identity.READINGS),
        *_readers(organizations.QUEUES, organizations.READINGS),
        Reader(audit.QUEUE.name, audit.QUEUE.bindings, None, {}),
        Reader(
            revocation_feed.QUEUE,
            revocation_feed.BINDINGS,
            None,
            revocation_feed.READINGS,
            is_durable=False,
        ),
    ]


def _readers(queues: Queues, readings: EventReadings) -> Iterator[Reader]:
    for queue, handlers in queues.items():
        yield _reader(queue, handlers, readings)


def _reader(queue: Queue, handled: Collection[str], readings: EventReadings) -> Reader:
    types = frozenset(handled)
    own = {kind: reading for kind, reading in readings.items() if kind in types}
    return Reader(queue.name, queue.bindings, types, own)


def matches(binding: str, kind: str) -> bool:
    """Return whether a topic binding matches a routing key.

    In AMQP bindings `*` is one word and `#` any number of words.
    """
    return _match(binding.split("."), kind.split("."))


def _match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_match(pattern[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _match(pattern[1:], words[1:])
