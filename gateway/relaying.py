"""A service's answer on its way to the client: streamed, or visibly broken off."""

import aiohttp
from aiohttp import ClientResponse

from gateway.bodies import RequestBody
from gateway.errors import AnswerBroken, UpstreamFailed
from gateway.exchange import DisconnectWatch, Exchange
from gateway.forwarding import Forwarder, Outgoing
from gateway.headers import response_headers
from gateway.upstreams import Upstream


class Relay:
    """Carries one request to a service and the service's answer back."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def carry(
        self, exchange: Exchange, upstream: Upstream, request: Outgoing, body: RequestBody
    ) -> None:
        """Forward, and stream the answer with as much memory as one piece takes.

        Raises what Forwarder.answer raises while nothing was sent yet, AnswerBroken when the
        service breaks off later, ClientDisconnected when nobody is left to answer.
        """
        with upstream.place():
            async with DisconnectWatch(exchange.receive) as watch:
                # While a body streams, its reader notices that the client went away.
                if body.complete:
                    watch.begin()
                else:
                    body.when_complete(watch.begin)
                response = await self._forwarder.answer(upstream, request)
                try:
                    await _stream(exchange, response, body, watch)
                finally:
                    if not response.closed:  # it closes itself when it was read to its end
                        response.close()


async def _stream(
    exchange: Exchange, response: ClientResponse, body: RequestBody, watch: DisconnectWatch
) -> None:
    if response.status < 200:
        raise UpstreamFailed  # 101: nobody asked for another protocol
    headers = response_headers(response.raw_headers, response.status)
    early = not body.complete
    if early:
        headers.append((b"connection", b"close"))
    await exchange.start(response.status, headers)
    last = await _all_but_last(exchange, response)
    watch.end()
    if early:
        await exchange.write(last)
        response.close()  # its writer stops reading the client's body before we do
        await exchange.linger()
        last = b""
    await exchange.finish(last)


async def _all_but_last(exchange: Exchange, response: ClientResponse) -> bytes:
    """Pass the pieces on as they come and return the last one, for one write less."""
    content = response.content
    try:
        piece = await content.readany()
        while not content.at_eof():
            await exchange.write(piece)
            piece = await content.readany()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise AnswerBroken from error
    return piece
