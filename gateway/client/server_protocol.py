"""The HTTP server's protocol with limits on the head (bytes and seconds) and on trailers.

Requests that cannot be parsed are answered with problem+json and the gateway's own headers. Usual
requests begin without a task, see gateway.direct_path.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.client.direct_cycle import DirectCycle
from gateway.errors import HeadTooLarge, HeadTooSlow, MalformedRequest
from gateway.headers import RawHeaders, security_headers
from shared.context import new_request_id
from shared.errors import PROBLEM, AppError, problem_document
from shared.http_protocol import HttpProtocol

log = structlog.get_logger("access")

_LONGEST_URL = 65_535  # bytes; uvicorn refuses a longer one

_TOO_LARGE_BESIDE_THE_BODY = "The trailer section or a chunk's extension is too large. Shorten it."


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """The limits of a request line with its headers: bytes, and seconds until they are complete."""

    size: int
    seconds: float
    tls: bool = False


BeginDirectly = Callable[[DirectCycle], bool]
"""Begins to answer a request without a task. Returns False, without any effect, if it cannot."""


def bounded_protocol(limits: HeadLimits, begin_directly: BeginDirectly) -> type[asyncio.Protocol]:
    """Return the protocol class for uvicorn's `http` setting, with these limits."""
    members = {"limits": limits, "begin_directly": staticmethod(begin_directly)}
    return type("LimitedHttpProtocol", (BoundedHttpProtocol,), members)


class BoundedHttpProtocol(HttpProtocol):
    """One connection of a client. `bounded_protocol` sets the class's members on a subclass."""

    limits: ClassVar[HeadLimits]
    begin_directly: ClassVar["staticmethod[[DirectCycle], bool]"]
    cycle: Any  # uvicorn's RequestResponseCycle, a DirectCycle, or None

    _in_head = False
    _in_body = False
    _head_size = 0  # bytes of the head's complete fields
    _head_arrived = 0  # bytes of the head, including the incomplete field
    _messages_begun = 0
    _bytes_without_body = 0
    _body_arrived = False
    _deferred_body: list[bytes] | None = None  # of a request that has not begun yet
    _direct_cycle: DirectCycle | None = None
    _task_cycle: RequestResponseCycle | None = None  # the last one that began in a task
    _head_timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None  # while no request is being answered or received
    _cause: AppError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and the request that is being answered.

        uvicorn stops only the last request that was received, not one before it in the pipeline.
        """
        self._stop_timer()
        super()._unset_keepalive_if_required()
        direct_cycle = self._direct_cycle
        if direct_cycle is not None:
            self._detach_direct_cycle()
            if direct_cycle.owner is not None:
                direct_cycle.owner.abandon()
        task_cycle = self._task_cycle
        if task_cycle is not None and not task_cycle.response_complete:
            task_cycle.disconnected = True
            task_cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count the incomplete part: a header or a trailer may never end."""
        was_in_body, message_count = self._in_body, self._messages_begun
        super().data_received(data)
        if self._deferred_body is not None:
            self._begin_deferred()
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
        # As uvicorn's, which this and `on_header` do not call.
        self.url += url
        if len(self.url) > self.limits.size:
            self._check(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store and count a header. An exception ends the parsing."""
        # As uvicorn's.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        self._head_size += len(name) + len(value)
        if self._head_size > self.limits.size:
            self._check(self._head_size)

    def on_headers_complete(self) -> None:
        """Stop the timer: the head is complete. Begin the request, or defer it.

        A deferred request begins at its end or at the end of the received data, which comes first:
        if it is complete by then, it may need no task. A target that uvicorn may refuse is not
        deferred: it must be refused while the parser runs.
        """
        self._in_head = False
        self._in_body = True
        self._bytes_without_body = 0
        self._stop_timer()
        is_first = self.cycle is None or self.cycle.response_complete
        if is_first and self._is_usual():
            self._deferred_body = []
            self.headers = []  # of the trailer section, see HttpProtocol
        else:
            super().on_headers_complete()
            if self._direct_cycle is not None and self._direct_cycle.owner is not None:
                self._direct_cycle.owner.wait_in_task()

    def on_body(self, body: bytes) -> None:
        """Record that the received data has body bytes."""
        self._body_arrived = True
        if self._deferred_body is None:
            super().on_body(body)
        else:
            self._deferred_body.append(body)

    def on_message_complete(self) -> None:
        """Record that the message is complete, and begin it if it was deferred."""
        self._in_body = False
        if self._deferred_body is not None:
            if self._has_begun_directly(self._deferred_body):
                return
            self._begin_deferred()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that could not be parsed, with the limit it exceeded or with 400."""
        if self._deferred_body is not None:
            self._begin_deferred()
        self._refuse(self._cause or MalformedRequest())

    def on_response_complete(self) -> None:
        """Begin the next request, or wait for it; the timer of an earlier wait only checks."""
        if self.pipeline:
            super().on_response_complete()
            return
        if self.timeout_keep_alive_task is None or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
        self._idle_since = self.loop.time()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for long enough, else check again later."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        remaining = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if remaining > 0:
            self.timeout_keep_alive_task = self.loop.call_later(
                remaining, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    # Called by the direct cycle.

    @property
    def is_writable(self) -> bool:
        """Whether the client receives what was sent to it before."""
        return not self.flow.write_paused

    @property
    def default_headers(self) -> RawHeaders:
        """The headers that the server adds to every response."""
        return self.server_state.default_headers

    def end_direct_cycle(self, response: bytes) -> None:
        """Send the whole response of the direct cycle and begin the next request."""
        direct_cycle = self._detach_direct_cycle()
        self.transport.write(response)
        if not direct_cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def continue_in_task(self, app: ASGIApp) -> None:
        """Replace the direct cycle by one of uvicorn; `app` answers it in a task."""
        is_last = self.cycle is self._direct_cycle
        direct_cycle = self._detach_direct_cycle()
        cycle = RequestResponseCycle(
            scope=direct_cycle.scope,  # type: ignore[arg-type]
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=direct_cycle.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False
        if is_last:  # else a pipelined request waits
            self.cycle = cycle
        self._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._task_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _is_usual(self) -> bool:
        """Return whether the present request may begin directly if it arrives whole.

        Its target is as it is forwarded: uvicorn parses other ones, and decodes paths.
        """
        path = self.url.partition(b"?")[0]
        return (
            path[:1] == b"/"
            and path.isascii()
            and b"%" not in path
            and b"#" not in self.url
            and len(self.url) <= _LONGEST_URL
            and not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
        )

    def _has_begun_directly(self, body: list[bytes]) -> bool:
        """Begin the deferred request, which is complete, without a task; return False if it needs
        one."""
        path, _, query = self.url.partition(b"?")
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = path.decode("ascii")
        scope["raw_path"] = path
        scope["query_string"] = query
        cycle = DirectCycle(self, scope, b"".join(body), keep_alive=self.parser.should_keep_alive())
        previous_cycle, self.cycle = self.cycle, cycle
        self._direct_cycle, self._deferred_body = cycle, None
        if self.begin_directly(cycle):
            return True
        self.cycle, self._direct_cycle, self._deferred_body = previous_cycle, None, body
        return False

    def _detach_direct_cycle(self) -> DirectCycle:
        cycle = self._direct_cycle
        assert cycle is not None
        self._direct_cycle = None
        if self.cycle is cycle:
            self.cycle = None
        return cycle

    def _begin_deferred(self) -> None:
        """Begin the deferred request in a task, with what has arrived of its body."""
        body, self._deferred_body = self._deferred_body or [], None
        super().on_headers_complete()
        for piece in body:
            super().on_body(piece)

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
        # The client would read it as a part of a response that has started. That may belong to a
        # request before the last one in the pipeline.
        cycle = self._task_cycle
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
