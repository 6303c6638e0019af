"""A request that is answered without a task, in the place of uvicorn's cycle for one request."""

from collections.abc import Callable
from typing import Protocol

from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.headers import RawHeaders, has_header

_BODILESS_STATUSES = frozenset({204, 304})


class ClientConnection(Protocol):
    """What a cycle needs of its client's connection."""

    @property
    def is_writable(self) -> bool:
        """Whether the client receives what was sent to it before."""

    @property
    def default_headers(self) -> RawHeaders:
        """The headers that the server adds to every response."""

    def end_direct_cycle(self, response: bytes) -> None:
        """Send the whole response of the present cycle and begin the next request."""

    def continue_in_task(self, app: ASGIApp) -> None:
        """Replace the present cycle by one of uvicorn; `app` answers it in a task."""


class DirectCycle:
    """One complete request on a client's connection, and the ways to answer it.

    Its owner calls `respond` or `hand_over` once. `on_disconnect` is called if the client
    disconnects before that. uvicorn reads `response_started` and `response_complete`, and clears
    `keep_alive` when the server stops.
    """

    __slots__ = ("_connection", "body", "keep_alive", "on_disconnect", "scope")

    # A response is sent whole, and then the cycle is no longer the connection's.
    response_started = False
    response_complete = False

    def __init__(
        self, connection: ClientConnection, scope: Scope, body: bytes, *, keep_alive: bool
    ) -> None:
        self._connection = connection
        self.scope = scope
        self.body = body
        self.keep_alive = keep_alive
        self.on_disconnect: Callable[[], None] | None = None

    def can_respond(self, status: int) -> bool:
        """Return whether `respond` is possible. If not, a task must wait, or refuse the status."""
        return status >= 200 and status in STATUS_LINE and self._connection.is_writable

    def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a whole response, framed as uvicorn's cycle frames one with a single piece."""
        self.on_disconnect = None
        pairs = [*self._connection.default_headers, *headers]
        if not self.keep_alive:
            pairs.append((b"connection", b"close"))
        if self.scope["method"] == "HEAD":
            body = b""
        elif status not in _BODILESS_STATUSES and not has_header(headers, b"content-length"):
            pairs.append((b"transfer-encoding", b"chunked"))
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n"
        lines = [b"%b: %b\r\n" % pair for pair in pairs]
        response = b"".join((STATUS_LINE[status], *lines, b"\r\n", body))
        self._connection.end_direct_cycle(response)

    def hand_over(self, app: ASGIApp) -> None:
        """Let an application answer the request in a task."""
        self.on_disconnect = None
        self._connection.continue_in_task(app)
