"""One request and its answer: what every answer carries, and what is said of it afterwards."""

import asyncio
import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway.errors import ClientDisconnected
from gateway.headers import RawHeaders
from shared.context import request_id as current_request_id
from shared.errors import AppError
from shared.problems import problem_of

# A client that takes nothing for this long has gone, whatever its connection says. Seconds.
_STALLED = 60.0
# A client that is refused while it still sends: how much is read, and how long, so that it sees
# the answer before the connection ends (RFC 9112 9.6).
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0

_NOT_STORED = (b"cache-control", b"no-store")


class HttpExchange:
    """The answering side of one request. Nothing is sent to the client around it."""

    __slots__ = (
        "_finished",
        "_security",
        "_send",
        "client_address",
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

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, security: RawHeaders
    ) -> None:
        self.scope = scope
        self.receive = receive
        self._send = send
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

    def add_response_headers(self, headers: RawHeaders) -> None:
        """Carry these too, whatever the answer will be."""
        self._security = self._security + headers

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the status and the headers; security headers and the request id are added.

        No cache may store an answer of the API unless its service allows it: most hold personal
        data, and without `Cache-Control` a cache may guess (RFC 9111 4.2.2).
        """
        self.started = True
        self.log_status = status
        if self.scope["path"].startswith("/api/") and not _says_how_to_cache(headers):
            headers.append(_NOT_STORED)
        headers.extend(self._security)
        headers.append((b"x-request-id", self.request_id.encode("ascii")))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: bytes) -> None:
        """Send one more piece; waits while the client is behind.

        Raises ClientDisconnected when it takes nothing for a minute.
        """
        try:
            async with asyncio.timeout(_STALLED):
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise ClientDisconnected from None

    async def finish(self, piece: bytes = b"") -> None:
        """Send the last piece."""
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
        """Answer from the gateway itself. `linger`: the client may still be sending its body."""
        fields: RawHeaders = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(body)),
        ]
        fields.extend(
            (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()
        )
        if policy is not None:
            self._security = _with_policy(self._security, policy)
        if linger:
            fields.append((b"connection", b"close"))
        await self.start(status, fields)
        if linger:
            await self.write(body)
            await self.linger()
            body = b""
        await self.finish(body)

    async def send_problem(self, error: AppError, *, linger: bool = False) -> None:
        """Answer with problem+json."""
        token = current_request_id.set(self.request_id)
        try:
            response = problem_of(_bare_request(self.scope), error)
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
        """Read what the client still sends, within bounds, so that it gets to reading."""
        seen = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while seen < _LINGER_BYTES:
                    message = await self.receive()
                    seen += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return
        except TimeoutError:
            return


def _says_how_to_cache(headers: RawHeaders) -> bool:
    return any(name == b"cache-control" for name, _ in headers)


def _with_policy(security: RawHeaders, policy: bytes) -> RawHeaders:
    return [
        (name, policy if name == b"content-security-policy" else value) for name, value in security
    ]


def _bare_request(scope: Scope) -> Request:
    """The request without its headers: an address built from a forged Host may not even parse."""
    return Request(
        {
            "type": "http",
            "scheme": "http",
            "server": ("gateway", 80),
            "method": scope["method"],
            "path": scope["path"],
            "query_string": b"",
            "headers": [],
        }
    )
