"""Streams a service's response to the client."""

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
    """Forwards a request to its service and streams the response back."""

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
        """Forward a request and stream the response; only one piece of it is in memory.

        Raises UpstreamBusy (503), what Forwarder.send raises, ResponseInterrupted if the service
        fails after its response has started, or ClientDisconnected.
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
        raise UpstreamFailed  # 101: the gateway requests no other protocol
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
