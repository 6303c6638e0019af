"""The hop to a service: one attempt after another until there is an answer or a reason."""

import asyncio
from dataclasses import dataclass

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientTimeout

from gateway.bodies import RequestBody
from gateway.errors import BodyTooSlow, UpstreamFailed, UpstreamTimedOut, UpstreamUnavailable
from gateway.upstreams import Instance, Upstream

# RFC 9110 9.2.1: repeating these asks for nothing twice.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REPEATS = 1
_UPLOAD_SECONDS = 60.0  # the largest body over a slow line
_OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class ConnectionBroken(aiohttp.ClientError):
    """The connection ended before the answer began, often because it had been idle too long."""


async def _no_hidden_repeats(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep the client library from repeating PUT and DELETE by itself: they may have been done."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionBroken(str(error)) from error


def _open_session(idle_timeout: float) -> aiohttp.ClientSession:
    """The one session of a gateway process. Places are bounded per service, not by the pool."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=idle_timeout, ttl_dns_cache=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_OWN_HEADERS,
        middlewares=(_no_hidden_repeats,),
        trust_env=False,
    )


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it goes on to a service. `silence` is in seconds, see Settings."""

    method: str
    raw_path: bytes
    query_string: bytes
    headers: list[tuple[str, str]]
    body: bytes | RequestBody | None
    silence: float

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when it may have been received before."""
        return self.body is None and self.method in _SAFE_METHODS

    @property
    def upload_limit(self) -> float | None:
        """Seconds in which the answer must begin, also when the service never takes the body."""
        return None if self.body is None else self.silence + _UPLOAD_SECONDS


class Forwarder:
    """Sends requests to services over one session with kept-alive connections.

    Use it as an async context manager; outside of it every service is unavailable. Seconds.
    """

    def __init__(self, *, connect_timeout: float = 2, idle_timeout: float = 30) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._timeouts: dict[float, ClientTimeout] = {}

    async def __aenter__(self) -> "Forwarder":
        self._session = _open_session(self._idle_timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def answer(self, upstream: Upstream, request: Outgoing) -> ClientResponse:
        """Send a request to an instance of a service; the answer's body is still to be read.

        An instance that cannot be connected to has received nothing, so the next one is tried
        whatever the method. Raises UpstreamUnavailable (503), UpstreamFailed (502),
        UpstreamTimedOut (504), or what broke the request's own body off.
        """
        upstream.circuit.enter()
        try:
            response = await self._repeated(upstream, request)
        except (UpstreamUnavailable, UpstreamFailed, UpstreamTimedOut):
            upstream.circuit.failed()
            raise
        upstream.circuit.answered()
        return response

    async def _repeated(self, upstream: Upstream, request: Outgoing) -> ClientResponse:
        repeats = _REPEATS if request.repeatable else 0
        while True:
            try:
                return await self._first_connected(upstream, request)
            except ConnectionBroken:
                if not repeats:
                    raise UpstreamFailed from None
                repeats -= 1

    async def _first_connected(self, upstream: Upstream, request: Outgoing) -> ClientResponse:
        for instance in upstream.in_turn():
            try:
                return await self._attempt(instance, request)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                upstream.refused(instance)
        raise AssertionError("in_turn raises when no instance is left")

    async def _attempt(self, instance: Instance, request: Outgoing) -> ClientResponse:
        session = self._session
        if session is None:
            raise UpstreamUnavailable
        try:
            async with asyncio.timeout(request.upload_limit):
                return await session.request(
                    request.method,
                    instance.url(request.raw_path, request.query_string),
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    timeout=self._timeout(request.silence),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _reason(request, error) from error

    def _timeout(self, silence: float) -> ClientTimeout:
        known = self._timeouts.get(silence)
        if known is None:
            known = self._timeouts[silence] = ClientTimeout(
                total=None, sock_connect=self._connect_timeout, sock_read=silence
            )
        return known


def _reason(request: Outgoing, error: Exception) -> Exception:
    """What to tell: the body's own failure before anything that followed from it."""
    body = request.body if isinstance(request.body, RequestBody) else None
    if body is not None and body.failure is not None:
        return body.failure
    if isinstance(error, TimeoutError):
        return UpstreamTimedOut() if body is None or body.complete else BodyTooSlow()
    return error if isinstance(error, ConnectionBroken) else UpstreamFailed()
