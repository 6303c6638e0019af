"""A request that is answered without a task, in the place of uvicorn's cycle for one request."""

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


class CycleOwner(Protocol):
    """What answers a direct cycle. The connection calls one of these, before the answer."""

    def abandon(self) -> None:
        """End the exchange: the client disconnected."""

    def wait_in_task(self) -> None:
        """Hand the cycle over: another request waits behind it.

        Reading is paused then, and only a task resumes it, to notice a disconnect.
        """


class DirectCycle:
    """One complete request on a client's connection, and the ways to answer it.

    `respond` or `hand_over` is called once. Until then the cycle may have an owner. uvicorn reads
    `response_started` and `response_complete`, and clears `keep_alive` when the server stops.
    """

    __slots__ = ("_connection", "body", "keep_alive", "owner", "scope")

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
        self.owner: CycleOwner | None = None

    def can_respond(self, status: int) -> bool:
        """Return whether `respond` is possible. If not, a task must wait, or refuse the status."""
        return 200 <= status < 600 and self._connection.is_writable

    def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a whole response, framed as uvicorn's cycle frames one with a single piece."""
        self.owner = None
        pairs = [*self._connection.default_headers, *headers]
        if not self.keep_alive:
            pairs.append((b"connection", b"close"))
        if self.scope["method"] == "HEAD":
            body = b""
        elif status not in _BODILESS_STATUSES and not has_header(headers, b"content-length"):
            pairs.append((b"transfer-encoding", b"chunked"))
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n"
        lines = b"\r\n".join(map(b": ".join, pairs))
        self._connection.end_direct_cycle(STATUS_LINE[status] + lines + b"\r\n\r\n" + body)

    def hand_over(self, app: ASGIApp) -> None:
        """Let an application answer the request in a task."""
        self.owner = None
        self._connection.continue_in_task(app)
