"""The HTTP server's protocol with limits on the head (bytes and seconds) and on trailers.

Requests that cannot be parsed are answered with problem+json and the gateway's own headers.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.errors import HeadTooLarge, HeadTooSlow, MalformedRequest
from gateway.headers import security_headers
from shared.context import new_request_id
from shared.errors import PROBLEM, AppError, problem_document
from shared.http_protocol import HttpProtocol

log = structlog.get_logger("access")

_TOO_LARGE_BESIDE_THE_BODY = "The trailer section or a chunk's extension is too large. Shorten it."


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """The limits of a request line with its headers: bytes, and seconds until they are complete."""

    size: int
    seconds: float
    tls: bool = False


def bounded_protocol(limits: HeadLimits) -> type[asyncio.Protocol]:
    """Return the protocol class for uvicorn's `http` setting, with these limits."""
    return type("LimitedHttpProtocol", (BoundedHttpProtocol,), {"limits": limits})


class BoundedHttpProtocol(HttpProtocol):
    """One connection of a client. `bounded_protocol` sets the limits on a subclass."""

    limits: ClassVar[HeadLimits]

    _in_head = False
    _in_body = False
    _head_size = 0  # bytes of the head's complete fields
    _head_arrived = 0  # bytes of the head, including the incomplete field
    _messages_begun = 0
    _bytes_without_body = 0
    _body_arrived = False
    _head_timer: asyncio.TimerHandle | None = None
    _cause: AppError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count the incomplete part: a header or a trailer may never end."""
        was_in_body, message_count = self._in_body, self._messages_begun
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            # If the head follows another message, its share of this data is unknown: then it is
            # counted from the next data on.
            if self._messages_begun - message_count <= (0 if was_in_body else 1):
                self._head_arrived += len(data)
            if self._head_arrived > self.limits.size:
                self._refuse(HeadTooLarge())
        elif self._in_body:
            self._count_without_body(len(data))
        cycle: RequestResponseCycle | None = self.cycle
        is_idle = self._in_head or cycle is None or cycle.response_complete
        if self._head_timer is None and is_idle:
            self._start_timer()

    def on_message_begin(self) -> None:
        """Start to count a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_size = self._head_arrived = 0
        self._messages_begun += 1

    def on_url(self, url: bytes) -> None:
        """Count the request line. An exception ends the parsing."""
        super().on_url(url)
        self._check(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header. An exception ends the parsing."""
        super().on_header(name, value)
        self._head_size += len(name) + len(value)
        self._check(self._head_size)

    def on_headers_complete(self) -> None:
        """Stop the timer: the head is complete."""
        self._in_head = False
        self._in_body = True
        self._bytes_without_body = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Record that the received data has body bytes."""
        self._body_arrived = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Record that the message is complete."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that could not be parsed, with the limit it exceeded or with 400."""
        self._refuse(self._cause or MalformedRequest())

    def _check(self, size: int) -> None:
        if size > self.limits.size:
            self._cause = HeadTooLarge()
            raise self._cause

    def _count_without_body(self, size: int) -> None:
        """Limit what a chunked body has besides its data: extensions and the trailer section."""
        if self._body_arrived:
            self._body_arrived = False
            self._bytes_without_body = 0
            return
        self._bytes_without_body += size
        if self._bytes_without_body > self.limits.size:
            self._refuse(MalformedRequest(_TOO_LARGE_BESIDE_THE_BODY))

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refuse(HeadTooSlow())
        else:  # no byte arrived, so there is no request to answer
            self.transport.close()

    def _refuse(self, error: AppError) -> None:
        if self.transport.is_closing():
            return
        # The client would read it as a part of a response that has started.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_rendered(error, tls=self.limits.tls))
        self.transport.close()


def _rendered(error: AppError, *, tls: bool) -> bytes:
    """Return a whole response. The request has no known path, so `instance` is empty."""
    request_id = new_request_id()
    document = problem_document(
        error.status, error.code(), error.detail, path="", request_id=request_id
    )
    body = json.dumps(document).encode()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (b"x-request-id", request_id.encode()),
        *security_headers(tls=tls),
    ]
    log.info("request", request_id=request_id, method=None, route="unparsed", status=error.status)
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (error.status, document["title"].encode(), lines, body)
