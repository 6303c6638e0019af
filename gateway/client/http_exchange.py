"""One request and its response, with the headers of every response and the data of its log line."""

import asyncio
import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway.errors import ClientDisconnected
from gateway.headers import RawHeaders, RequestHead, has_header
from shared.context import request_id as current_request_id
from shared.errors import AppError
from shared.problems import problem_of

# Seconds after which a client that receives nothing counts as disconnected.
_STALLED = 60.0
# How much is still read from a client that is refused while it sends, and for how long, so that it
# receives the response before the connection ends (RFC 9112 9.6).
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0

_NO_STORE = (b"cache-control", b"no-store")


class HttpExchange:
    """One request and its response. Everything that is sent to the client passes through it."""

    __slots__ = (
        "_finished",
        "_security",
        "_send",
        "client_address",
        "head",
        "log_status",
        "receive",
        "request_id",
        "scope",
        "service",
        "started",
        "started_at",
        "template",
        "user_id",
    )

    receive: Receive
    _send: Send

    def __init__(self, scope: Scope, request_id: str, security: RawHeaders) -> None:
        self.scope = scope
        self._security = security
        self.request_id = request_id
        self.started_at = time.perf_counter()
        self.started = False
        self._finished = False
        self.log_status = 0
        self.template = "unmatched"
        self.service = "gateway"
        self.client_address = ""
        self.user_id: int | None = None  # once the access token was verified
        self.head: RequestHead | None = None  # once the headers were read

    def connect(self, receive: Receive, send: Send) -> None:
        """Set the functions that receive the body and send the response."""
        self.receive = receive
        self._send = send

    def add_response_headers(self, headers: RawHeaders) -> None:
        """Add headers to the response, whatever it will be."""
        self._security = self._security + headers

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the status and the headers, with those that every response has."""
        headers = self.begin_response(status, headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def begin_response(self, status: int, headers: RawHeaders) -> RawHeaders:
        """Return the headers with the security headers and the request id; record the status.

        No cache may store a response of the API unless its service allows it: most hold personal
        data, and without `Cache-Control` a cache may use a heuristic (RFC 9111 4.2.2).
        """
        self.started = True
        self.log_status = status
        if self.scope["path"].startswith("/api/") and not has_header(headers, b"cache-control"):
            headers.append(_NO_STORE)
        headers.extend(self._security)
        headers.append((b"x-request-id", self.request_id.encode("ascii")))
        return headers

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body; waits while the client is slow.

        Raises ClientDisconnected if the client receives nothing for a minute.
        """
        try:
            async with asyncio.timeout(_STALLED):
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise ClientDisconnected from None

    async def finish(self, piece: bytes = b"") -> None:
        """Send the last piece of the body."""
        self._finished = True
        await self._send({"type": "http.response.body", "body": piece, "more_body": False})

    async def respond(
        self,
        status: int,
        media_type: bytes,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        policy: bytes | None = None,
        linger: bool = False,
    ) -> None:
        """Send a whole response. `linger`: the client may still be sending its body."""
        fields: RawHeaders = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(body)),
        ]
        fields.extend(
            (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()
        )
        if policy is not None:
            name = b"content-security-policy"
            others = [header for header in self._security if header[0] != name]
            self._security = [*others, (name, policy)]
        if linger:
            fields.append((b"connection", b"close"))
        await self.start(status, fields)
        if linger:
            await self.write(body)
            await self.linger()
            body = b""
        await self.finish(body)

    async def send_problem(self, error: AppError, *, linger: bool = False) -> None:
        """Send an error as problem+json."""
        # Without its headers: a URL with a forged Host may be impossible to parse.
        request = Request(
            {
                "type": "http",
                "scheme": "http",
                "server": ("gateway", 80),
                "method": self.scope["method"],
                "path": self.scope["path"],
                "query_string": b"",
                "headers": [],
            }
        )
        token = current_request_id.set(self.request_id)
        try:
            response = problem_of(request, error)
        finally:
            current_request_id.reset(token)
        await self.respond(
            response.status_code,
            response.headers["content-type"].encode("latin-1"),
            bytes(response.body),
            error.headers,
            linger=linger,
        )

    async def linger(self) -> None:
        """Read and discard what the client still sends, up to a limit of bytes and of seconds."""
        size = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while size < _LINGER_BYTES:
                    message = await self.receive()
                    size += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return
        except TimeoutError:
            return
