"""A service's answer on its way to the client: streamed, or visibly broken off."""

from gateway.client.disconnect_watch import DisconnectWatch
from gateway.client.http_exchange import HttpExchange
from gateway.errors import ResponseInterrupted, UpstreamFailed
from gateway.headers import response_headers
from gateway.limits.in_flight import RequestSource
from gateway.limits.returning_clients import ReturningClients
from gateway.routes import Quota
from gateway.upstream.connection import InvalidResponse, UpstreamResponse
from gateway.upstream.forwarder import Forwarder, UpstreamRequest
from gateway.upstream.instances import Upstream


class ResponseStream:
    """Carries one request to a service and the service's answer back."""

    def __init__(self, forwarder: Forwarder, returning_clients: ReturningClients) -> None:
        self._forwarder = forwarder
        self._returning_clients = returning_clients

    async def forward(
        self,
        exchange: HttpExchange,
        upstream: Upstream,
        quota: Quota,
        source: RequestSource,
        request: UpstreamRequest,
    ) -> None:
        """Forward, and stream the answer with as much memory as one piece takes.

        Raises what Forwarder.send raises while nothing was sent yet, ResponseInterrupted when the
        service breaks off later, ClientDisconnected when nobody is left to answer.
        """
        upstream.in_flight.acquire(quota, source)
        try:
            async with DisconnectWatch(exchange.receive) as watch:
                watch.begin()
                response = await self._forwarder.send(upstream, request)
                try:
                    if quota is Quota.SIGN_IN:
                        self._returning_clients.record_sign_in(response.headers, source.network)
                    await _stream(exchange, response, watch)
                finally:
                    response.close()
        finally:
            upstream.in_flight.release(quota, source)


async def _stream(
    exchange: HttpExchange, response: UpstreamResponse, watch: DisconnectWatch
) -> None:
    if response.status < 200:
        raise UpstreamFailed  # 101: nobody asked for another protocol
    await exchange.start(response.status, response_headers(response.headers, response.status))
    last = await _all_but_last(exchange, response)
    watch.end()
    await exchange.finish(last)


async def _all_but_last(exchange: HttpExchange, response: UpstreamResponse) -> bytes:
    """Pass the pieces on as they come and return the last one, for one write less."""
    try:
        piece, last = await response.next()
        while not last:
            await exchange.write(piece)
            piece, last = await response.next()
    except (InvalidResponse, TimeoutError) as error:
        raise ResponseInterrupted from error
    return piece
