"""Streams a service's response to the client."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.client.disconnect_watch import DisconnectWatch
from gateway.client.http_exchange import HttpExchange
from gateway.errors import ResponseInterrupted, UpstreamFailed
from gateway.headers import RawHeaders, response_headers
from gateway.limits.in_flight import RequestSource
from gateway.limits.returning_clients import ReturningClients
from gateway.routes import Quota
from gateway.upstream.connection import InvalidResponse, UpstreamResponse
from gateway.upstream.forwarder import Attempt, Forwarder, UpstreamRequest
from gateway.upstream.instances import Upstream


@dataclass(slots=True)
class Forwarding:
    """A complete request, its service, and the class and source of its place there."""

    upstream: Upstream
    quota: Quota
    source: RequestSource
    request: UpstreamRequest

    def take_place(self) -> None:
        """Take a place at the service. Raises UpstreamBusy (503)."""
        self.upstream.in_flight.acquire(self.quota, self.source)

    def release_place(self) -> None:
        """Return the place."""
        self.upstream.in_flight.release(self.quota, self.source)


class ResponseStream:
    """Forwards a request to its service and streams the response back."""

    def __init__(self, forwarder: Forwarder, returning_clients: ReturningClients) -> None:
        self._forwarder = forwarder
        self._returning_clients = returning_clients

    async def forward(self, exchange: HttpExchange, forwarding: Forwarding) -> None:
        """Forward a request and stream the response; only one piece of it is in memory.

        Raises UpstreamBusy (503), what Forwarder.send raises, ResponseInterrupted if the service
        fails after its response has started, or ClientDisconnected.
        """
        forwarding.take_place()
        await self.resume(exchange, forwarding, None)

    async def resume(
        self, exchange: HttpExchange, forwarding: Forwarding, attempt: Attempt | None
    ) -> None:
        """Do the rest of `forward` after `begin`, whose result is `attempt`; release the place."""
        try:
            async with DisconnectWatch(exchange.receive) as watch:
                watch.begin()
                response = await self._forwarder.send(
                    forwarding.upstream, forwarding.request, attempt
                )
                try:
                    self._record_sign_in(forwarding, response)
                    await _stream(exchange, response, watch)
                finally:
                    response.close()
        finally:
            forwarding.release_place()

    def begin(self, forwarding: Forwarding, on_change: Callable[[], None]) -> Attempt | None:
        """Take a place and send the request at once, if a connection is idle.

        The caller calls `resume` or `finish`, also if the result is None, or `abandon`.
        Raises UpstreamBusy (503), or MalformedRequest (400).
        """
        forwarding.take_place()
        try:
            return self._forwarder.begin(forwarding.upstream, forwarding.request, on_change)
        except BaseException:
            forwarding.release_place()
            raise

    def finish(
        self, exchange: HttpExchange, forwarding: Forwarding, attempt: Attempt
    ) -> tuple[RawHeaders, bytes]:
        """Return headers and body of a complete response for the client; release the place."""
        response = attempt.response
        try:
            attempt.instance.circuit.record_success()
            self._record_sign_in(forwarding, response)
            headers = response_headers(response.headers, response.status)
            return exchange.begin_response(response.status, headers), response.take()
        finally:
            forwarding.release_place()

    def abandon(self, forwarding: Forwarding, attempt: Attempt) -> None:
        """Close the connection of an attempt whose client disconnected; release the place."""
        attempt.response.close()
        forwarding.release_place()

    def _record_sign_in(self, forwarding: Forwarding, response: UpstreamResponse) -> None:
        if forwarding.quota is Quota.SIGN_IN:
            network = forwarding.source.network
            self._returning_clients.record_sign_in(response.headers, network)


async def _stream(
    exchange: HttpExchange, response: UpstreamResponse, watch: DisconnectWatch
) -> None:
    # The gateway requests no other protocol (101), and HTTP has no status above 599.
    if not 200 <= response.status < 600:
        raise UpstreamFailed
    await exchange.start(response.status, response_headers(response.headers, response.status))
    try:
        piece, is_last = await response.next()
        while not is_last:
            await exchange.write(piece)
            piece, is_last = await response.next()
    except (InvalidResponse, TimeoutError) as error:
        raise ResponseInterrupted from error
    watch.end()
    await exchange.finish(piece)
