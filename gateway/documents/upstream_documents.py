"""What the gateway itself requests from services: documentation, readiness and revocations."""

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
from gateway.upstream.instances import Upstream, Upstreams
from shared.errors import AppError
from shared.service import ReadinessCheck
from shared.tokens import ServiceSigner

log = structlog.get_logger(__name__)

_TIMEOUT = 2.0  # seconds until a service must respond
_LIST_TIMEOUT = 10.0  # longer for identity's list, without which no token can be accepted
_DOCUMENT_LIMIT = 8 * 1024 * 1024  # bytes
_REQUEST_ERRORS = (AppError, InvalidResponse, TimeoutError, ValueError)

NOT_READY = "not ready"

SendRequest = Callable[[Upstream, UpstreamRequest], Awaitable[UpstreamResponse]]
"""Sends a request to a service: a method of Forwarder."""


class CachedBytes:
    """Bytes that are produced again when older than `seconds`, once for all concurrent callers."""

    def __init__(self, make: Callable[[], Awaitable[bytes]], *, seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._value = b""
        self._stale_at = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> bytes:
        """Return the bytes, at most `seconds` old."""
        async with self._lock:
            if time.monotonic() >= self._stale_at:
                self._value = await self._make()
                self._stale_at = time.monotonic() + self._seconds
            return self._value


class MergedDocument:
    """The merged OpenAPI document; stores the last document of each service."""

    def __init__(
        self, forwarder: Forwarder, upstreams: Upstreams, table: RouteTable, *, version: str
    ) -> None:
        self._forwarder = forwarder
        self._upstreams = upstreams
        self._table = table
        self._version = version
        self._documents: dict[Service, Document] = {}

    async def fetch(self) -> bytes:
        """Fetch the document of every service; return them merged as JSON."""
        await asyncio.gather(*(self._fetch_part(upstream) for upstream in self._upstreams.values()))
        documents = {name: self._documents[name] for name in Service if name in self._documents}
        missing = tuple(service for service in Service if service not in documents)
        document = merge(documents, self._table.find, version=self._version, incomplete=missing)
        return json.dumps(document, separators=(",", ":")).encode()

    async def _fetch_part(self, upstream: Upstream) -> None:
        try:
            status, body = await _fetch_document(self._forwarder.send, upstream, b"/openapi.json")
            if status == 200:
                self._documents[upstream.service] = parse(body)
        except _REQUEST_ERRORS:
            return  # its last document is used


class Readiness:
    """Checks what the gateway depends on.

    The gateway is ready if it can check access tokens and at least one service is ready: a load
    balancer must not remove the gateway, and with it all services, because one is overloaded.
    """

    def __init__(
        self, own: Mapping[str, ReadinessCheck], services: Mapping[str, ReadinessCheck]
    ) -> None:
        self._own = own
        self._services = services

    @property
    def checks(self) -> dict[str, ReadinessCheck]:
        """Return the checks that must succeed for the gateway to be ready."""

        async def any_service() -> bool:
            return len(await _missing(self._services)) < len(self._services)

        return {**self._own, "services": any_service}

    async def fetch(self) -> bytes:
        """Return the status as JSON: ready, degraded or not ready, and what is missing."""
        services = await _missing(self._services)
        own = await _missing(self._own)
        if not (services or own):
            return b'{"status": "ready"}'
        is_degraded = not own and len(services) < len(self._services)
        status = "degraded" if is_degraded else NOT_READY
        return json.dumps({"status": status, "missing": [*services, *own]}).encode()


async def _missing(checks: Mapping[str, ReadinessCheck]) -> list[str]:
    """Run all checks at once and return the names of those that fail."""
    results = await asyncio.gather(*(check() for check in checks.values()))
    return [name for name, result in zip(checks, results, strict=True) if not result]


def ready_check(forwarder: Forwarder, upstream: Upstream) -> ReadinessCheck:
    """Return a check of whether a service reports that it is ready."""

    async def check() -> bool:
        try:
            status, _ = await _fetch_document(forwarder.send, upstream, b"/health/ready")
        except _REQUEST_ERRORS:
            return False
        return status == 200

    return check


def revocation_list_fetcher(
    forwarder: Forwarder, identity: Upstream, signer: ServiceSigner
) -> FetchRevocationList:
    """Return a function that fetches identity's list of revocations with a service token."""

    async def read() -> bytes | None:
        headers = [(b"authorization", f"Bearer {signer.token_for('identity')}".encode())]
        try:
            status, body = await _fetch_document(
                forwarder.send_ignoring_circuits,
                identity,
                b"/internal/revocations",
                headers,
                seconds=_LIST_TIMEOUT,
            )
        except _REQUEST_ERRORS as error:
            log.warning("revocation_list_unanswered", cause=repr(error))
            return None
        if status != 200:
            log.error("revocation_list_refused", status=status)
            return None
        return body

    return read


async def _fetch_document(
    send: SendRequest,
    upstream: Upstream,
    path: bytes,
    headers: RawHeaders | None = None,
    *,
    seconds: float = _TIMEOUT,
) -> tuple[int, bytes]:
    """Fetch a small document from a service; return its status and its body."""
    request = UpstreamRequest("GET", path, b"", headers or [], None, seconds)
    async with asyncio.timeout(seconds):
        response = await send(upstream, request)
        with closing(response):
            body, is_last = await response.next()
            while not is_last:
                if len(body) >= _DOCUMENT_LIMIT:
                    raise UpstreamFailed("The service's document is too large.")
                piece, is_last = await response.next()
                body += piece
            return response.status, body
