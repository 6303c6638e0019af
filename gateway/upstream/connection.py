"""One connection to a service: HTTP/1.1, one request at a time, parsed by llhttp (RFC 9112).

It is our own because the HTTP client causes most of the cost of forwarding, see
docs/decisions/0014-the-forwarding-client.md.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_LIMIT: Final = 64 * 1024  # bytes of a response's head
BUFFERED: Final = 64 * 1024  # bytes of a body that are buffered for a slow client

Headers = list[tuple[bytes, bytes]]

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class ConnectionLost(Exception):
    """The connection ended before the first byte of the response, often after it was idle."""


class InvalidResponse(Exception):
    """The received data is not a complete HTTP response."""


class UpstreamResponse:
    """A service's response as it arrives. Names of headers are in lower case."""

    __slots__ = (
        "_connection",
        "_failure",
        "_pieces",
        "_size",
        "_waiter",
        "bodiless",
        "complete",
        "headers",
        "on_change",
        "status",
    )

    def __init__(
        self,
        connection: "UpstreamConnection",
        *,
        bodiless: bool,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`on_change` is called once: when the head and what follows it at once, or a failure, is
        there. Until then no task may wait for the response."""
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self.bodiless = bodiless  # the response to HEAD has headers for a body, but no body
        self.on_change = on_change
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> tuple[bytes, bool]:
        """Return the next piece of the body, and whether it is the last.

        Raises InvalidResponse if the connection breaks, TimeoutError if the service is silent.
        """
        while not (self._pieces or self.complete):
            await self._wait()
        return self.take(), self.complete

    def take(self) -> bytes:
        """Return and remove what has arrived of the body."""
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        # The connection of a complete response may have another one already.
        if self._size > BUFFERED and not self.complete:
            self._connection.resume()
        self._size = 0
        return piece

    def close(self) -> None:
        """Stop reading; closes the connection unless the response is complete."""
        self.on_change = None
        if not self.complete:
            self._connection.close()

    async def wait_for_head(self) -> None:
        """Wait for the status and the headers.

        Raises ConnectionLost, InvalidResponse, or TimeoutError if the service is silent.
        """
        try:
            while not self.status:
                await self._wait()
        except BaseException:
            self.close()
            raise

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def add(self, piece: bytes) -> bool:
        """Store a piece; return whether the buffer is full now and was not before."""
        self._pieces.append(piece)
        previous, self._size = self._size, self._size + len(piece)
        if self._waiter is not None:
            self.wake()
        return previous <= BUFFERED < self._size

    def fail(self, failure: Exception) -> None:
        """End the response with an error."""
        self._failure = failure
        self.wake()
        self.notify()

    def notify(self) -> None:
        """Call `on_change` if the head or a failure is there."""
        on_change = self.on_change
        if on_change is not None and (self.status or self._failure is not None):
            self.on_change = None
            on_change()

    def wake(self) -> None:
        """Wake the task that waits for data."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class UpstreamConnection(asyncio.Protocol):
    """A connection for one request at a time; `on_idle` is called when it can be reused."""

    def __init__(self, on_idle: Callable[["UpstreamConnection"], None]) -> None:
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._response: UpstreamResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._silence_timeout = 0.0
        self._paused = False
        self._has_framing = False  # the headers define where the body ends
        self._interim = False
        self._head_size = 0
        self._incomplete_size = 0
        self._last_activity = 0.0
        self.idle_since = 0.0
        self.is_open = True

    @property
    def can_send(self) -> bool:
        """Whether the connection is open; an end that was just received closes it soon."""
        return self.is_open and not self._transport.is_closing()

    def send(
        self,
        request: bytes,
        *,
        is_head: bool,
        silence_timeout: float,
        on_change: Callable[[], None] | None = None,
    ) -> UpstreamResponse:
        """Send a whole request and return its response, of which nothing has arrived yet.

        It fails if the service is silent for `silence_timeout` seconds.
        """
        response = UpstreamResponse(self, bodiless=is_head, on_change=on_change)
        self._response = response
        self._has_framing = self._interim = False
        self._head_size = self._incomplete_size = 0
        self._transport.write(request)
        self._silence_timeout = silence_timeout
        self._last_activity = self._loop.time()
        # A timer of an earlier request is used again: it only checks.
        if self._timer is None or self._timer_due > self._last_activity + silence_timeout:
            self._set_timer(silence_timeout)
        return response

    def close(self) -> None:
        """Close the connection at once, also during a response."""
        self.is_open = False
        self._response = None
        self._stop_timer()
        self._transport.abort()

    def resume(self) -> None:
        """Continue to read after a pause."""
        if self._paused and self.is_open:
            self._paused = False
            self._last_activity = self._loop.time()
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        # uvloop's transport is not a subclass.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse the data; data without a request ends the connection."""
        response = self._response
        if response is None:
            self.close()
            return
        self._last_activity = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(InvalidResponse("not an HTTP response"))
            response.notify()  # an upgrade is complete already, and so does not fail
            return
        if not response.status:
            # An incomplete header is not counted yet.
            self._incomplete_size += len(data)
            if self._incomplete_size > HEAD_LIMIT:
                self._fail(InvalidResponse("the head is too large"))
        # Not before all data is parsed: what follows a response must not become the next one.
        response.notify()

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete a body that ends with the connection; otherwise fail the response."""
        self.is_open = False
        self._stop_timer()
        response = self._response
        if response is None:
            return
        if exc is None and response.status and not self._has_framing:
            self._finish(response)
        elif response.status or self._incomplete_size:
            self._fail(InvalidResponse("the connection broke"))
        else:
            self._fail(ConnectionLost())

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Close the connection if a response begins without a request."""
        if self._response is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header, and whether it defines where the body ends.

        A field of the trailer section must not be merged with the headers (RFC 9110 6.5.1).
        """
        response = self._response
        if response is None:
            return
        name = name.lower()
        if name in _FRAMING and (name == b"content-length" or value.lower().endswith(b"chunked")):
            self._has_framing = True
        if not response.status:
            response.headers.append((name, value))
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_LIMIT:
            self._fail(InvalidResponse("the head is too large"))

    def on_headers_complete(self) -> None:
        """Begin the response, or discard an interim one (RFC 9110 15.2)."""
        response = self._response
        if response is None:
            return
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._interim = True
            self._has_framing = False
            response.headers.clear()
            return
        response.status = status
        response.wake()
        if response.bodiless or status in (204, 304):
            self._finish(response)
            # The old parser would wait for the body that the headers announce.
            self._parser = HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        """Store a piece of the body; pause reading while the client is slow."""
        response = self._response
        if response is None:
            self.close()
        elif response.add(body):
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Complete the response, or continue after an interim one."""
        if self._interim:
            self._interim = False
        elif self._response is not None:
            self._finish(self._response)

    def _finish(self, response: UpstreamResponse) -> None:
        # A service that responds early may not read the rest of the request.
        can_be_reused = (
            self.is_open
            and not self._transport.get_write_buffer_size()
            and self._parser.should_keep_alive()
        )
        response.complete = True
        response.wake()
        self._response = None
        if not can_be_reused:
            self.close()
            return
        if self._paused:
            self.resume()
        self.idle_since = self._last_activity
        self._on_idle(self)

    def _fail(self, failure: Exception) -> None:
        response = self._response
        self.close()
        if response is not None:
            response.fail(failure)

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer_due = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._check_silence)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_silence(self) -> None:
        self._timer = None
        if self._response is None:
            return
        timeout = self._silence_timeout
        deadline = timeout + (self._loop.time() if self._paused else self._last_activity)
        remaining = deadline - self._loop.time()
        if remaining > 0:
            self._set_timer(remaining)
        else:
            self._fail(TimeoutError())
