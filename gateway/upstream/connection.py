"""One connection to a service: HTTP/1.1, one request at a time, parsed by llhttp (RFC 9112).

Written by hand because the hop's cost is mostly that of its client, see
docs/decisions/0014-the-forwarding-client.md. It knows nothing of services, attempts or places.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_LIMIT: Final = 64 * 1024  # bytes of an answer's head
BUFFERED: Final = 64 * 1024  # bytes of a body that wait for a slow client before the service waits

Headers = list[tuple[bytes, bytes]]


class ConnectionLost(Exception):
    """The connection ended before a byte of the answer came, often after it had been idle."""


class InvalidResponse(Exception):
    """What came is no answer, or not the whole of one."""


class UpstreamResponse:
    """A service's answer as it arrives. Names of headers are in lower case."""

    __slots__ = (
        "_connection",
        "_failure",
        "_pieces",
        "_size",
        "_waiter",
        "bodiless",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, connection: "UpstreamConnection", *, bodiless: bool) -> None:
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self.bodiless = bodiless  # the answer to a HEAD has the headers of a body it does not have
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether it is the last.

        Raises InvalidResponse when the service breaks off, TimeoutError when it falls silent.
        """
        while not (self._pieces or self.complete):
            await self._wait()
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._size > BUFFERED:
            self._connection.resume()
        self._size = 0
        return piece, self.complete

    def close(self) -> None:
        """Take no more of it; the connection ends unless the answer was complete."""
        if not self.complete:
            self._connection.close()

    async def wait_for_head(self) -> None:
        """Wait for the status and the headers."""
        while not self.status:
            await self._wait()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def add(self, piece: bytes) -> bool:
        """Keep a piece; returns whether there is enough for now."""
        self._pieces.append(piece)
        before, self._size = self._size, self._size + len(piece)
        self.wake()
        return before <= BUFFERED < self._size

    def fail(self, failure: Exception) -> None:
        """Nothing more will come."""
        self._failure = failure
        self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class UpstreamConnection(asyncio.Protocol):
    """A connection that asks one thing at a time; `on_idle` is called when it may ask again."""

    def __init__(self, on_idle: Callable[["UpstreamConnection"], None]) -> None:
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._response: UpstreamResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._silence_timeout = 0.0
        self._paused = False
        self._framed = False  # the headers say where the body ends
        self._interim = False
        self._head_size = 0
        self._unparsed = 0
        self._last_activity = 0.0
        self.idle_since = 0.0
        self.is_open = True

    async def send(
        self, request: bytes, *, is_head: bool, silence_timeout: float
    ) -> UpstreamResponse:
        """Send a whole request and return its answer once status and headers are there.

        Raises ConnectionLost, InvalidResponse, or TimeoutError after `silence_timeout` seconds.
        """
        response = self._response = UpstreamResponse(self, bodiless=is_head)
        self._framed = self._interim = False
        self._head_size = self._unparsed = 0
        self._transport.write(request)
        self._start_timer(silence_timeout)
        try:
            await response.wait_for_head()
        except BaseException:
            self.close()
            raise
        return response

    def close(self) -> None:
        """End the connection at once; an answer under way is broken off."""
        self.is_open = False
        self._detach()
        self._transport.abort()

    def resume(self) -> None:
        """Read on after a pause."""
        if self._paused and self.is_open:
            self._paused = False
            self._last_activity = self._loop.time()
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's is none by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; bytes that nobody asked for end the connection."""
        response = self._response
        if response is None:
            self.close()
            return
        self._last_activity = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(InvalidResponse("not an HTTP answer"))
            return
        if not response.status:
            # A header without an end has not been counted yet.
            self._unparsed += len(data)
            if self._unparsed > HEAD_LIMIT:
                self._fail(InvalidResponse("the head is too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: of a body that has no other mark of its end, or before its time."""
        self.is_open = False
        response = self._response
        if response is None:
            return
        if exc is None and response.status and not self._framed:
            self._finish(response)
        elif response.status or self._unparsed:
            self._fail(InvalidResponse("broken off"))
        else:
            self._fail(ConnectionLost())

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Another answer begins: the only one allowed is that to what was asked."""
        if self._response is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and whether it says where the body ends."""
        response = self._response
        if response is None:
            return
        name = name.lower()
        if name == b"content-length" or (
            name == b"transfer-encoding" and value.lower().endswith(b"chunked")
        ):
            self._framed = True
        response.headers.append((name, value))
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_LIMIT:
            self._fail(InvalidResponse("the head is too large"))

    def on_headers_complete(self) -> None:
        """The answer has begun, or one that only says that another will (RFC 9110 15.2)."""
        response = self._response
        if response is None:
            return
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._interim = True
            self._framed = False
            response.headers.clear()
            return
        response.status = status
        response.wake()
        if response.bodiless or status in (204, 304):
            self._finish(response)
            # The old one still waits for the body that the headers speak of.
            self._parser = HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body; a slow client slows the service down."""
        response = self._response
        if response is None:
            self.close()
        elif response.add(body):
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The response is complete."""
        if self._interim:
            self._interim = False
        elif self._response is not None:
            self._finish(self._response)

    # What we do about it.

    def _finish(self, response: UpstreamResponse) -> None:
        # A service that answers early may leave the rest of the request unread.
        reusable = (
            self.is_open
            and not self._transport.get_write_buffer_size()
            and self._parser.should_keep_alive()
        )
        response.complete = True
        response.wake()
        self._detach()
        if not reusable:
            self.close()
            return
        self.resume()
        self.idle_since = self._loop.time()
        self._on_idle(self)

    def _fail(self, failure: Exception) -> None:
        response = self._response
        self.close()
        if response is not None:
            response.fail(failure)

    def _detach(self) -> None:
        """Forget the answer and its timer."""
        self._response = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, silence_timeout: float) -> None:
        """Give the service so many seconds for the next sign of it."""
        if self._timer is not None:
            self._timer.cancel()
        self._silence_timeout = silence_timeout
        self._last_activity = self._loop.time()
        self._timer = self._loop.call_later(silence_timeout, self._check_silence)

    def _check_silence(self) -> None:
        now = self._loop.time()
        left = (
            self._silence_timeout
            if self._paused
            else self._last_activity + self._silence_timeout - now
        )
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
        else:
            self._fail(TimeoutError())
