"""The hop to a service: one attempt after another until there is an answer or a reason."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from gateway.bodies import RequestBody
from gateway.errors import (
    BodyTooSlow,
    MalformedRequest,
    UpstreamFailed,
    UpstreamTimedOut,
    UpstreamUnavailable,
)
from gateway.headers import RawHeaders
from gateway.pool import CannotConnect, Pool
from gateway.upstreams import Instance, Upstream
from gateway.wire import Answer, AnswerGarbled, ConnectionBroken

# RFC 9110 9.2.1: repeating these asks for nothing twice.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})


@dataclass(slots=True)
class Outgoing:
    """A request as it goes on to a service. `silence` is in seconds, see Settings.

    `has_key`: the service executes it once, however often it arrives with its Idempotency-Key.
    """

    method: str
    raw_path: bytes
    query_string: bytes
    headers: RawHeaders
    body: bytes | RequestBody | None
    silence: float
    has_key: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when it may have been received before."""
        if isinstance(self.body, RequestBody):
            return False  # its pieces are gone
        if self.has_key and self.method == "POST":
            return True
        return self.body is None and self.method in _SAFE_METHODS

    def head(self, host: bytes) -> bytes:
        """The request line and the headers, with the body behind them when it is there already.

        Raises MalformedRequest (400) for a line break where there must be none.
        """
        target = self.raw_path + b"?" + self.query_string if self.query_string else self.raw_path
        lines = [b"%b %b HTTP/1.1" % (self.method.encode(), target), b"host: " + host]
        lines += [b"%b: %b" % pair for pair in self.headers]
        if (framing := self._framing()) is not None:
            lines.append(framing)
        head = b"\r\n".join(lines)
        # Our server's parser lets none through; but here one would become another request.
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            raise MalformedRequest
        body = self.body if isinstance(self.body, bytes) else b""
        return head + b"\r\n\r\n" + body

    def _framing(self) -> bytes | None:
        """What the headers do not yet say about the body's end (RFC 9112 6.3)."""
        if self.body is None and self.method not in _BODY_EXPECTED:
            return None
        if self._has_length:
            return None
        if isinstance(self.body, RequestBody):
            return b"transfer-encoding: chunked"
        return b"content-length: %d" % len(self.body or b"")

    @property
    def _has_length(self) -> bool:
        return any(name == b"content-length" for name, _ in self.headers)

    def stream(self) -> AsyncIterable[bytes] | None:
        """The body's pieces as they go over the line; None when it is no stream."""
        if not isinstance(self.body, RequestBody):
            return None
        return self.body if self._has_length else _chunks(self.body)


async def _chunks(body: RequestBody) -> AsyncIterator[bytes]:
    async for piece in body:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


class Forwarder:
    """Sends requests to services over connections that are kept open.

    Use it as an async context manager; outside of it every service is unavailable. Seconds.
    """

    def __init__(self, *, connect_timeout: float = 2, idle_timeout: float = 30) -> None:
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._pools: dict[Instance, Pool] = {}
        self._is_open = False

    async def __aenter__(self) -> "Forwarder":
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def forget(self, instance: Instance) -> None:
        """Close the connections to an instance; what is under way there ends by itself."""
        pool = self._pools.pop(instance, None)
        if pool is not None:
            pool.close()

    async def answer(self, upstream: Upstream, request: Outgoing) -> Answer:
        """Send a request to an instance of a service; the answer's body is still to be read.

        An instance that cannot be connected to has received nothing, so the next one is tried
        whatever the method. One that broke off may have acted (502). A safe request, and a POST
        with an Idempotency-Key, are sent once more here, and then by their client (503).
        Raises UpstreamUnavailable (503), UpstreamFailed (502), UpstreamTimedOut (504), or what
        broke the request's own body off.
        """
        try:
            return await self._first_connected(upstream, request)
        except ConnectionBroken:
            if not request.repeatable:
                raise UpstreamFailed from None
        try:
            return await self._first_connected(upstream, request)
        except ConnectionBroken:
            raise UpstreamUnavailable from None

    async def _first_connected(self, upstream: Upstream, request: Outgoing) -> Answer:
        for instance in upstream.in_turn():
            try:
                answer = await self._attempt(instance, request)
            except CannotConnect:
                instance.circuit.refused()
            except (ConnectionBroken, UpstreamFailed, UpstreamTimedOut):
                instance.circuit.failed()
                raise
            else:
                instance.circuit.answered()
                return answer
        raise AssertionError("in_turn raises when no instance is left")

    async def _attempt(self, instance: Instance, request: Outgoing) -> Answer:
        pool = self._pool(instance)
        connection = await pool.take()
        try:
            return await connection.ask(
                request.head(instance.origin.authority),
                request.stream(),
                is_head=request.method == "HEAD",
                silence=request.silence,
            )
        except ConnectionBroken:
            # Where one has ended the others have too: the next attempt needs a new connection.
            pool.drop_idle()
            raise
        except AnswerGarbled as error:
            raise UpstreamFailed from error
        except TimeoutError:
            body = request.body
            # Whose fault it is that nothing happens: a client's that does not send on.
            waits_for_client = isinstance(body, RequestBody) and not body.complete
            raise (BodyTooSlow if waits_for_client else UpstreamTimedOut)() from None

    def _pool(self, instance: Instance) -> Pool:
        if not self._is_open:
            raise UpstreamUnavailable
        pool = self._pools.get(instance)
        if pool is None:
            origin = instance.origin
            pool = self._pools[instance] = Pool(
                instance.host,
                origin.port,
                tls_name=origin.name if origin.tls else None,
                connect_timeout=self._connect_timeout,
                idle_timeout=self._idle_timeout,
            )
        return pool
