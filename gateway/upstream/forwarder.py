"""The hop to a service: one attempt after another until there is an answer or a reason."""

from contextlib import suppress
from dataclasses import dataclass

from gateway.errors import (
    MalformedRequest,
    UpstreamFailed,
    UpstreamTimedOut,
    UpstreamUnavailable,
)
from gateway.headers import RawHeaders
from gateway.upstream.connection import ConnectionLost, InvalidResponse, UpstreamResponse
from gateway.upstream.connection_pool import CannotConnect, ConnectionPool
from gateway.upstream.instances import Instance, Upstream

# RFC 9110 9.2.1: repeating these asks for nothing twice.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})


@dataclass(slots=True)
class UpstreamRequest:
    """A request as it goes on to a service. `silence_timeout` is in seconds, see Settings.

    `has_key`: the service executes it once, however often it arrives with its Idempotency-Key.
    """

    method: str
    raw_path: bytes
    query_string: bytes
    headers: RawHeaders
    body: bytes | None
    silence_timeout: float
    has_idempotency_key: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again when it may have been received before."""
        if self.has_idempotency_key and self.method == "POST":
            return True
        return self.body is None and self.method in _SAFE_METHODS

    def encode(self, host: bytes) -> bytes:
        """The request line and the headers, with the body behind them.

        The length is that of the body which is there, never one that a client announced.
        Raises MalformedRequest (400) for a line break where there must be none.
        """
        target = self.raw_path + b"?" + self.query_string if self.query_string else self.raw_path
        lines = [b"%b %b HTTP/1.1" % (self.method.encode(), target), b"host: " + host]
        lines += [b"%b: %b" % pair for pair in self.headers]
        body = self.body or b""
        if self.body is not None or self.method in _BODY_EXPECTED:
            lines.append(b"content-length: %d" % len(body))
        head = b"\r\n".join(lines)
        # Our server's parser lets none through; but here one would become another request.
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            raise MalformedRequest
        return head + b"\r\n\r\n" + body


class Forwarder:
    """Sends requests to services over connections that are kept open.

    Use it as an async context manager; outside of it every service is unavailable. Seconds.
    """

    def __init__(self, *, connect_timeout: float = 2, idle_timeout: float = 30) -> None:
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._pools: dict[Instance, ConnectionPool] = {}
        self._is_open = False

    async def __aenter__(self) -> "Forwarder":
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def close_connections(self, instance: Instance) -> None:
        """Close the connections to an instance; what is under way there ends by itself."""
        pool = self._pools.pop(instance, None)
        if pool is not None:
            pool.close()

    async def send(self, upstream: Upstream, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request to an instance of a service; the answer's body is still to be read.

        An instance that cannot be connected to has received nothing, so the next one is tried
        whatever the method. One that broke off may have acted (502). A safe request, and a POST
        with an Idempotency-Key, are sent once more here, and then by their client (503).
        Raises UpstreamUnavailable (503), UpstreamFailed (502), UpstreamTimedOut (504), or
        MalformedRequest (400).
        """
        try:
            return await self._send_once(upstream, request)
        except ConnectionLost:
            if not request.is_repeatable:
                raise UpstreamFailed from None
        try:
            return await self._send_once(upstream, request)
        except ConnectionLost:
            raise UpstreamUnavailable from None

    async def send_ignoring_circuits(
        self, upstream: Upstream, request: UpstreamRequest
    ) -> UpstreamResponse:
        """Send the gateway's own safe request, also to an instance whose circuit is open.

        Clients' requests would take the few attempts that an open circuit allows. Raises
        UpstreamUnavailable (503) when no instance answers.
        """
        for instance in upstream.all_instances():
            with suppress(CannotConnect, ConnectionLost, UpstreamFailed, UpstreamTimedOut):
                return await self._send_to(instance, request)
        raise UpstreamUnavailable

    async def _send_once(self, upstream: Upstream, request: UpstreamRequest) -> UpstreamResponse:
        for instance in upstream.available_instances():
            try:
                response = await self._send_to(instance, request)
            except CannotConnect:
                instance.circuit.record_refusal()
            except (ConnectionLost, UpstreamFailed, UpstreamTimedOut):
                instance.circuit.record_failure()
                raise
            else:
                instance.circuit.record_success()
                return response
        raise AssertionError("in_turn raises when no instance is left")

    async def _send_to(self, instance: Instance, request: UpstreamRequest) -> UpstreamResponse:
        encoded = request.encode(instance.origin.authority)
        pool = self._pool(instance)
        connection = await pool.acquire()
        try:
            return await connection.send(
                encoded, is_head=request.method == "HEAD", silence_timeout=request.silence_timeout
            )
        except ConnectionLost:
            # Where one has ended the others have too: the next attempt needs a new connection.
            pool.close_idle()
            raise
        except InvalidResponse as error:
            raise UpstreamFailed from error
        except TimeoutError:
            raise UpstreamTimedOut from None

    def _pool(self, instance: Instance) -> ConnectionPool:
        if not self._is_open:
            raise UpstreamUnavailable
        pool = self._pools.get(instance)
        if pool is None:
            origin = instance.origin
            pool = self._pools[instance] = ConnectionPool(
                instance.host,
                origin.port,
                tls_name=origin.name if origin.tls else None,
                connect_timeout=self._connect_timeout,
                idle_timeout=self._idle_timeout,
            )
        return pool
