"""Receives the whole body of a request before the request is sent to a service.

Each body has a limit of time and of transfer rate, and all bodies together a limit of memory. So a
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
from gateway.settings import Settings
from shared.media_types import BodyTooLarge

MINIMUM_CHARGE: Final = 16 * 1024  # bytes that an unfinished body counts as, at least
_SHARES: Final = 4  # one address may use a quarter of the memory


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of one body and of all bodies together, in bytes and seconds."""

    size: int
    memory: int  # of all bodies together
    timeout: float  # of one body; each `rate` bytes received extend it by a second
    rate: float
    max_seconds: float  # the timeout is never extended beyond this


class RequestBodies:
    """The bodies that are being received or sent to a service, and the memory that they use.

    When an address or all bodies together reach the limit of memory, the body that began first
    among those not yet complete is evicted. A normal body arrives within one round trip, so that
    one is slow.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self.memory_used = 0  # bytes
        self._memory_used_by: dict[str, int] = {}
        # In the order in which they began.
        self._arriving: dict[IncomingBody, None] = {}
        self._arriving_of: dict[str, dict[IncomingBody, None]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "RequestBodies":
        """Return an empty collection with the configured limits."""
        limits = BodyLimits(
            size=settings.body_limit,
            memory=settings.body_memory,
            timeout=settings.body_timeout,
            rate=settings.body_rate,
            max_seconds=settings.body_longest,
        )
        return cls(limits)

    def incoming(self, receive: Receive, head: RequestHead, network: str) -> "IncomingBody":
        """Return the body of a request from an address (see shared.networks)."""
        return IncomingBody(self, receive, head, network)

    def add(self, body: "IncomingBody") -> None:
        """Count a body whose reception begins."""
        self._arriving[body] = None
        self._arriving_of.setdefault(body.network, {})[body] = None
        self.charge(body, MINIMUM_CHARGE)

    def charge(self, body: "IncomingBody", size: int) -> None:
        """Count `size` bytes for a body and evict others, or the body itself, to make room."""
        self._count(body, size)
        share = self.limits.memory // _SHARES
        while self._memory_used_by[body.network] > share:
            if not self._evict_first(self._arriving_of.get(body.network, {}), spared=body):
                break
        while self.memory_used > self.limits.memory:
            if not self._evict_first(self._arriving, spared=body):
                break

    def complete(self, body: "IncomingBody", size: int) -> None:
        """Mark a body as received: it is no longer evicted, and counts only if it is large."""
        self._remove_arriving(body)
        self._count(body, size if size > MINIMUM_CHARGE else 0)

    def remove(self, body: "IncomingBody") -> None:
        """Stop counting a body."""
        self._remove_arriving(body)
        self._count(body, 0)
        if not self._memory_used_by[body.network]:
            del self._memory_used_by[body.network]

    def _count(self, body: "IncomingBody", size: int) -> None:
        difference = size - body.charged
        self.memory_used += difference
        self._memory_used_by[body.network] = self._memory_used_by.get(body.network, 0) + difference
        body.charged = size

    def _remove_arriving(self, body: "IncomingBody") -> None:
        if body in self._arriving:
            del self._arriving[body]
            of_network = self._arriving_of[body.network]
            del of_network[body]
            if not of_network:
                del self._arriving_of[body.network]

    def _evict_first(self, arriving: "dict[IncomingBody, None]", *, spared: "IncomingBody") -> bool:
        """Evict the oldest of these. A small body is not evicted for its own sake."""
        oldest = next(iter(arriving), None)
        if oldest is None or (oldest is spared and oldest.charged <= MINIMUM_CHARGE):
            return False
        self._remove_arriving(oldest)
        self._count(oldest, 0)
        oldest.evict()
        return True


class IncomingBody:
    """One body. Use it as a context manager for as long as the bytes are needed."""

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
        self.arrived_in_pieces = False
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
        """Stop the reception: `receive` raises TooManyBodies."""
        self._evicted = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> bytes:
        """Receive and return the whole body.

        Raises BodyTooLarge (413), BodyTooSlow (408), TooManyBodies (503), ClientDisconnected.
        """
        limits = self._bodies.limits
        if (self._head.content_length or 0) > limits.size:
            raise BodyTooLarge
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(start + min(limits.timeout, limits.max_seconds)) as timer:
                self._timer = timer
                self._bodies.add(self)
                body = await self._receive_all(timer, start)
        except TimeoutError:
            raise (TooManyBodies if self._evicted else BodyTooSlow)() from None
        self._bodies.complete(self, len(body))
        return body

    async def _receive_all(self, timer: asyncio.Timeout, start: float) -> bytes:
        limits = self._bodies.limits
        body, more = await self._receive_piece()
        if more:
            self.arrived_in_pieces = True
            # One growing array: pieces of one byte each would need fifty times their size.
            buffer = bytearray(body)
            while more:
                if len(buffer) > limits.size:
                    raise BodyTooLarge
                # If it was evicted while this piece was on its way, it must not count again.
                if not self._evicted and len(buffer) > self.charged:
                    self._bodies.charge(self, len(buffer))
                if self._evicted:
                    raise TooManyBodies
                deadline = limits.timeout + len(buffer) / limits.rate
                timer.reschedule(start + min(deadline, limits.max_seconds))
                piece, more = await self._receive_piece()
                buffer += piece
            body = bytes(buffer)
        if len(body) > limits.size:
            raise BodyTooLarge
        return body

    async def _receive_piece(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether another one follows."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message.get("body", b""), message.get("more_body", False)
