"""Requests' bodies: each is received whole before a service is asked, all within bounds.

A body has a total time and a least rate, and all bodies together have a bounded memory. So a
client that sends slowly occupies only a connection and a little of that memory. See
docs/decisions/0023-bodies-before-places.md.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from starlette.types import Receive

from gateway.errors import BodyTooSlow, ClientDisconnected, TooManyBodies
from gateway.headers import RequestHead
from shared.media_types import BodyTooLarge

MINIMUM_CHARGE: Final = 16 * 1024  # bytes: the least that an unfinished body is counted as
_SHARES: Final = 4  # one address may have a quarter of the memory


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds of one body and of all of them. Bytes and seconds."""

    size: int
    memory: int  # of all bodies that are held
    timeout: float  # for any body; each `rate` bytes that have arrived add a second to it
    rate: float
    max_seconds: float  # however fast it is


class RequestBodies:
    """The bodies that are arriving or on their way to a service, and the memory they take.

    When memory runs out, of one address or altogether, the body that has been arriving for longest
    is evicted: an ordinary body arrives within one round trip, so this is a slow one.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self.memory_used = 0  # bytes
        self._memory_used_by: dict[str, int] = {}
        # In the order in which they began; dictionaries keep it.
        self._arriving: dict[IncomingBody, None] = {}
        self._arriving_of: dict[str, dict[IncomingBody, None]] = {}

    def incoming(self, receive: Receive, head: RequestHead, network: str) -> "IncomingBody":
        """The body of a request from an address (see shared.networks), as a context manager."""
        return IncomingBody(self, receive, head, network)

    def add(self, body: "IncomingBody") -> None:
        """Count a body that begins to arrive."""
        self._arriving[body] = None
        self._arriving_of.setdefault(body.network, {})[body] = None
        self.charge(body, MINIMUM_CHARGE)

    def charge(self, body: "IncomingBody", size: int) -> None:
        """Count `size` bytes for a body, and make room for them. May evict the body itself."""
        self._count(body, size)
        share = self.limits.memory // _SHARES
        while self._memory_used_by[body.network] > share:
            if not self._evict_first(self._arriving_of.get(body.network, {}), spared=body):
                break
        while self.memory_used > self.limits.memory:
            if not self._evict_first(self._arriving, spared=body):
                break

    def complete(self, body: "IncomingBody", size: int) -> None:
        """Note that a body has arrived: it stays counted, if it is large, and is not evicted."""
        self._remove_arriving(body)
        self._count(body, size if size > MINIMUM_CHARGE else 0)

    def remove(self, body: "IncomingBody") -> None:
        """Stop counting a body."""
        self._remove_arriving(body)
        self._count(body, 0)
        if not self._memory_used_by[body.network]:
            del self._memory_used_by[body.network]

    def _count(self, body: "IncomingBody", size: int) -> None:
        more = size - body.charged
        self.memory_used += more
        self._memory_used_by[body.network] = self._memory_used_by.get(body.network, 0) + more
        body.charged = size

    def _remove_arriving(self, body: "IncomingBody") -> None:
        if body in self._arriving:
            del self._arriving[body]
            of_network = self._arriving_of[body.network]
            del of_network[body]
            if not of_network:
                del self._arriving_of[body.network]

    def _evict_first(self, arriving: "dict[IncomingBody, None]", *, spared: "IncomingBody") -> bool:
        """Evict the oldest of these; a small body is spared while it is the only one."""
        oldest = next(iter(arriving), None)
        if oldest is None or (oldest is spared and oldest.charged <= MINIMUM_CHARGE):
            return False
        self._remove_arriving(oldest)
        self._count(oldest, 0)
        oldest.evict()
        return True


class IncomingBody:
    """One body; use as a context manager, for as long as the bytes are needed."""

    __slots__ = (
        "_bodies",
        "_evicted",
        "_head",
        "_receive",
        "_timer",
        "arrived_in_pieces",
        "charged",
        "network",
    )

    def __init__(
        self, bodies: RequestBodies, receive: Receive, head: RequestHead, network: str
    ) -> None:
        self.network = network
        self.charged = 0  # bytes
        self.arrived_in_pieces = False  # whether more arrived after the first piece
        self._bodies = bodies
        self._receive = receive
        self._head = head
        self._evicted = False
        self._timer: asyncio.Timeout | None = None

    def __enter__(self) -> "IncomingBody":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bodies.remove(self)

    def evict(self) -> None:
        """Break off the reception."""
        self._evicted = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> bytes:
        """Receive all of it.

        Raises BodyTooLarge (413), BodyTooSlow (408), TooManyBodies (503), ClientDisconnected.
        """
        limits = self._bodies.limits
        if (self._head.content_length or 0) > limits.size:
            raise BodyTooLarge
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(began + min(limits.timeout, limits.max_seconds)) as timer:
                self._timer = timer
                self._bodies.add(self)
                body = await self._receive_all(timer, began)
        except TimeoutError:
            raise (TooManyBodies if self._evicted else BodyTooSlow)() from None
        self._bodies.complete(self, len(body))
        return body

    async def _receive_all(self, timer: asyncio.Timeout, began: float) -> bytes:
        limits = self._bodies.limits
        body, more = await self._next()
        if more:
            self.arrived_in_pieces = True
            # One growing array: pieces of a byte each would take fifty times their size.
            whole = bytearray(body)
            while more:
                self._count_received(len(whole))
                allowed = limits.timeout + len(whole) / limits.rate
                timer.reschedule(began + min(allowed, limits.max_seconds))
                piece, more = await self._next()
                whole += piece
            body = bytes(whole)
        if len(body) > limits.size:
            raise BodyTooLarge
        return body

    def _count_received(self, size: int) -> None:
        """Count what has arrived so far."""
        if size > self._bodies.limits.size:
            raise BodyTooLarge
        # One that was evicted while this piece was on its way must take no memory again.
        if not self._evicted and size > self.charged:
            self._bodies.charge(self, size)
        if self._evicted:
            raise TooManyBodies

    async def _next(self) -> tuple[bytes, bool]:
        """One more piece, and whether another follows."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message.get("body", b""), message.get("more_body", False)
