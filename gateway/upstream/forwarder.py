"""Sends requests to services, to one instance after another until one responds."""

from collections.abc import Callable
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

# RFC 9110 9.2.1: repeating these changes nothing.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})


@dataclass(slots=True)
class UpstreamRequest:
    """A request as it is sent to a service. `silence_timeout` is in seconds, see Settings.

    `has_idempotency_key`: the service executes the request once, even if it is repeated.
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
        """Whether it may be repeated although the service may have received it."""
        if self.has_idempotency_key and self.method == "POST":
            return True
        return self.body is None and self.method in _SAFE_METHODS

    def encode(self, host: bytes) -> bytes:
        """Return the request line, the headers and the body as bytes.

        Content-Length is the size of the actual body, never what a client announced.
        Raises MalformedRequest (400) for a line break inside of a line.
        """
        target = self.raw_path + b"?" + self.query_string if self.query_string else self.raw_path
        lines = [b"%b %b HTTP/1.1" % (self.method.encode(), target), b"host: " + host]
        lines += map(b": ".join, self.headers)
        body = self.body or b""
        if self.body is not None or self.method in _BODY_EXPECTED:
            lines.append(b"content-length: %d" % len(body))
        head = b"\r\n".join(lines)
        # The server's parser accepts none; but here one could begin another request.
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            raise MalformedRequest
        return head + b"\r\n\r\n" + body


@dataclass(slots=True)
class Attempt:
    """One request that was sent to an instance. Its response may have arrived already."""

    instance: Instance
    pool: ConnectionPool
    response: UpstreamResponse

    async def response_head(self) -> UpstreamResponse:
        """Wait for the response's head and return the response.

        Raises ConnectionLost, UpstreamFailed (502) or UpstreamTimedOut (504).
        """
        try:
            await self.response.wait_for_head()
        except ConnectionLost:
            # The other idle connections are probably closed, too: the next attempt needs a new one.
            self.pool.close_idle()
            raise
        except InvalidResponse as error:
            raise UpstreamFailed from error
        except TimeoutError:
            raise UpstreamTimedOut from None
        return self.response

    async def outcome(self) -> UpstreamResponse:
        """Do the same as `response_head`, and record the outcome in the circuit breaker."""
        try:
            response = await self.response_head()
        except (ConnectionLost, UpstreamFailed, UpstreamTimedOut):
            self.instance.circuit.record_failure()
            raise
        self.instance.circuit.record_success()
        return response


class Forwarder:
    """Sends requests to services over connections that stay open.

    Use it as an async context manager; outside of it every service is unavailable. Timeouts are in
    seconds.
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
        """Close the connections to an instance; requests in progress are completed."""
        pool = self._pools.pop(instance, None)
        if pool is not None:
            pool.close()

    def begin(
        self, upstream: Upstream, request: UpstreamRequest, on_change: Callable[[], None]
    ) -> Attempt | None:
        """Send a request at once, if the instance in turn has an idle connection; else return None.

        The caller completes the attempt with `send`. `on_change` is that of UpstreamResponse.
        Raises MalformedRequest (400).
        """
        instance = upstream.instance_in_turn
        pool = self._pools.get(instance)
        if pool is None or not instance.circuit.is_closed:
            return None
        encoded = request.encode(instance.origin.authority)
        connection = pool.take_idle()
        if connection is None:
            return None
        upstream.end_turn()
        response = connection.send(
            encoded,
            is_head=request.method == "HEAD",
            silence_timeout=request.silence_timeout,
            on_change=on_change,
        )
        return Attempt(instance, pool, response)

    async def send(
        self, upstream: Upstream, request: UpstreamRequest, attempt: Attempt | None = None
    ) -> UpstreamResponse:
        """Send a request to an instance of a service; the caller reads the response's body.

        `attempt` is the first one, if it has begun already.

        If an instance refuses the connection, it received nothing, and the next one is tried for
        every method. If a connection breaks, the instance may have executed the request (502). A
        safe request, or a POST with an Idempotency-Key, is then repeated once here; if that fails,
        its client may repeat it (503).
        Raises UpstreamUnavailable (503), UpstreamFailed (502), UpstreamTimedOut (504), or
        MalformedRequest (400).
        """
        try:
            if attempt is not None:
                return await attempt.outcome()
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

        Otherwise requests of clients would use the few attempts that an open circuit admits.
        Raises UpstreamUnavailable (503) if no instance responds.
        """
        for instance in upstream.all_instances():
            with suppress(CannotConnect, ConnectionLost, UpstreamFailed, UpstreamTimedOut):
                return await (await self._send_to(instance, request)).response_head()
        raise UpstreamUnavailable

    async def _send_once(self, upstream: Upstream, request: UpstreamRequest) -> UpstreamResponse:
        for instance in upstream.available_instances():
            try:
                attempt = await self._send_to(instance, request)
            except CannotConnect:
                instance.circuit.record_refusal()
            else:
                return await attempt.outcome()
        raise AssertionError("available_instances raises if no instance is left")

    async def _send_to(self, instance: Instance, request: UpstreamRequest) -> Attempt:
        encoded = request.encode(instance.origin.authority)
        pool = self._pool(instance)
        connection = await pool.acquire()
        response = connection.send(
            encoded, is_head=request.method == "HEAD", silence_timeout=request.silence_timeout
        )
        return Attempt(instance, pool, response)

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
