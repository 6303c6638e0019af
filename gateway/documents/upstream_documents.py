"""What the gateway asks the services for on its own behalf: documentation and readiness."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing

import structlog

from gateway.documents.openapi_merge import Document, merge, parse
from gateway.errors import UpstreamFailed
from gateway.headers import RawHeaders
from gateway.revocations.revocation_feed import FetchRevocationList
from gateway.routes import RouteTable, Service
from gateway.upstream.connection import InvalidResponse, UpstreamResponse
from gateway.upstream.forwarder import Forwarder, UpstreamRequest
from gateway.upstream.instances import Upstream
from shared.errors import AppError
from shared.service import Check
from shared.tokens import ServiceSigner

log = structlog.get_logger(__name__)

_PATIENCE = 2.0  # seconds a service has to answer
_LIST_PATIENCE = 10.0  # the same for identity's list, without which no token can be trusted
_DOCUMENT_LIMIT = 8 * 1024 * 1024  # bytes
_UNANSWERED = (AppError, InvalidResponse, TimeoutError, ValueError)

NOT_READY = "not ready"

Upstreams = Mapping[Service, Upstream]

SendRequest = Callable[[Upstream, UpstreamRequest], Awaitable[UpstreamResponse]]
"""Sends a request to a service: one of the Forwarder's methods."""


class CachedBytes:
    """Bytes that are made again once they are older than `seconds`; callers share one making."""

    def __init__(self, make: Callable[[], Awaitable[bytes]], *, seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._value = b""
        self._stale_at = 0.0
        self._making = asyncio.Lock()

    async def get(self) -> bytes:
        """The bytes, at most `seconds` old."""
        async with self._making:
            if time.monotonic() >= self._stale_at:
                self._value = await self._make()
                self._stale_at = time.monotonic() + self._seconds
            return self._value


class MergedDocument:
    """The merged OpenAPI document; remembers each service's last known part."""

    def __init__(
        self, forwarder: Forwarder, upstreams: Upstreams, table: RouteTable, *, version: str
    ) -> None:
        self._forwarder = forwarder
        self._upstreams = upstreams
        self._table = table
        self._version = version
        self._known: dict[Service, Document] = {}

    async def fetch(self) -> bytes:
        """Ask every service for its part and merge what is known, as JSON."""
        await asyncio.gather(*(self._fetch_part(upstream) for upstream in self._upstreams.values()))
        known = {service: self._known[service] for service in Service if service in self._known}
        missing = tuple(service for service in Service if service not in known)
        document = merge(known, self._table.find, version=self._version, incomplete=missing)
        return json.dumps(document, separators=(",", ":")).encode()

    async def _fetch_part(self, upstream: Upstream) -> None:
        try:
            status, body = await fetch_document(self._forwarder.send, upstream, b"/openapi.json")
            if status == 200:
                self._known[upstream.service] = parse(body)
        except _UNANSWERED:
            return  # its last known part stays


class Readiness:
    """Which of the things the gateway depends on are missing, by name.

    It can do its work while it knows whom to believe and one service is ready: the overload of one
    service must not take the gateway, and with it all others, out of a load balancer.
    """

    def __init__(self, own: Mapping[str, Check], services: Mapping[str, Check]) -> None:
        self._own = own
        self._services = services

    @property
    def checks(self) -> dict[str, Check]:
        """What must be there for the gateway to be ready."""
        return {**self._own, "services": self._any_service}

    async def fetch(self) -> bytes:
        """Return the status as JSON: "ready", or what is missing for "degraded" or "not ready"."""
        services = await _missing(self._services)
        own = await _missing(self._own)
        if not (services or own):
            return b'{"status": "ready"}'
        degraded = not own and len(services) < len(self._services)
        status = "degraded" if degraded else NOT_READY
        return json.dumps({"status": status, "missing": [*services, *own]}).encode()

    async def _any_service(self) -> bool:
        return len(await _missing(self._services)) < len(self._services)


async def _missing(checks: Mapping[str, Check]) -> list[str]:
    """Run all checks at once and return the names of those that fail."""
    results = await asyncio.gather(*(check() for check in checks.values()))
    return [name for name, is_there in zip(checks, results, strict=True) if not is_there]


def ready_check(forwarder: Forwarder, upstream: Upstream) -> Check:
    """A check that a service calls itself ready."""

    async def check() -> bool:
        try:
            status, _ = await fetch_document(forwarder.send, upstream, b"/health/ready")
        except _UNANSWERED:
            return False
        return status == 200

    return check


def revocation_list_fetcher(
    forwarder: Forwarder, identity: Upstream, signer: ServiceSigner
) -> FetchRevocationList:
    """What reads identity's list of revocations, as a service does."""

    async def read() -> bytes | None:
        headers = [(b"authorization", f"Bearer {signer.token_for('identity')}".encode())]
        try:
            status, body = await fetch_document(
                forwarder.send_ignoring_circuits,
                identity,
                b"/internal/revocations",
                headers,
                seconds=_LIST_PATIENCE,
            )
        except _UNANSWERED as error:
            log.warning("revocation_list_unanswered", cause=repr(error))
            return None
        if status != 200:
            log.error("revocation_list_refused", status=status)
            return None
        return body

    return read


async def fetch_document(
    send: SendRequest,
    upstream: Upstream,
    path: bytes,
    headers: RawHeaders | None = None,
    *,
    seconds: float = _PATIENCE,
) -> tuple[int, bytes]:
    """Fetch a small document from a service: its status and its body."""
    request = UpstreamRequest("GET", path, b"", headers or [], None, seconds)
    async with asyncio.timeout(seconds):
        response = await send(upstream, request)
        with closing(response):
            body, last = await response.next()
            while not last:
                if len(body) >= _DOCUMENT_LIMIT:
                    raise UpstreamFailed("The service's document is too large.")
                piece, last = await response.next()
                body += piece
            return response.status, body
