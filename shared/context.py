"""The origin of a request or a change, the request id, and the access log."""

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, replace

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid4

log = structlog.get_logger("access")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

REQUEST_ID_HEADER = "X-Request-ID"
CLIENT_ADDRESS_HEADER = "X-Client-Address"

ANONYMOUS = "anonymous"
"""The role of a caller without a verified token."""

_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who or what makes a change, and for which request: a part of its event."""

    correlation_id: str
    user_id: int | None = None
    role: str = ANONYMOUS
    ip_address: str | None = None
    user_agent: str | None = None
    causation_id: str | None = None

    def acting(self, user_id: int, role: str) -> "Origin":
        """Return this origin with a user who has just been identified."""
        return replace(self, user_id=user_id, role=role)


def system_origin(correlation_id: str | None = None, causation_id: str | None = None) -> Origin:
    """Return the origin of a timer's or a consumer's change."""
    return Origin(
        correlation_id=correlation_id or new_request_id(), role="system", causation_id=causation_id
    )


def new_request_id() -> str:
    """Return a new request id."""
    return str(uuid4())


def accepted_request_id(value: str | None) -> str:
    """Return the client's request id if it is harmless in logs and headers, else a new one."""
    return value if value and _VALID_REQUEST_ID.fullmatch(value) else new_request_id()


def request_origin(connection: HTTPConnection) -> Origin:
    """Return the anonymous origin of a request. Only the gateway sets the address header."""
    peer = connection.client.host if connection.client else None
    agent = connection.headers.get("user-agent")
    return Origin(
        correlation_id=request_id.get() or new_request_id(),
        ip_address=connection.headers.get(CLIENT_ADDRESS_HEADER, peer),
        user_agent=agent[:512] if agent else None,
    )


class RequestContext:
    """Pure ASGI middleware: sets the request id, returns it, and logs one line per request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = accepted_request_id(Headers(scope=scope).get(REQUEST_ID_HEADER))
        token = request_id.set(identifier)
        structlog.contextvars.bind_contextvars(request_id=identifier)
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = identifier
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            # Set by `shared.auth.find_actor`.
            actor = scope.get("state", {}).get("actor")
            elapsed = round((time.perf_counter() - started) * 1000, 1)
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                ms=elapsed,
                user_id=actor.user_id if actor is not None else None,
            )
            structlog.contextvars.unbind_contextvars("request_id")
            request_id.reset(token)
