"""A service's answer on its way to the client: streamed, or visibly broken off."""

from gateway.bodies import RequestBody
from gateway.errors import AnswerBroken, UpstreamFailed
from gateway.exchange import DisconnectWatch, Exchange
from gateway.forwarding import Forwarder, Outgoing
from gateway.headers import response_headers
from gateway.routes import Quota
from gateway.upstreams import Upstream
from gateway.wire import Answer, AnswerGarbled


class Relay:
    """Carries one request to a service and the service's answer back."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def carry(
        self,
        exchange: Exchange,
        upstream: Upstream,
        quota: Quota,
        request: Outgoing,
        body: RequestBody,
    ) -> None:
        """Forward, and stream the answer with as much memory as one piece takes.

        Raises what Forwarder.answer raises while nothing was sent yet, AnswerBroken when the
        service breaks off later, ClientDisconnected when nobody is left to answer.
        """
        upstream.enter(quota)
        try:
            async with DisconnectWatch(exchange.receive) as watch:
                # While a body streams, its reader notices that the client went away.
                if body.complete:
                    watch.begin()
                else:
                    body.when_complete(watch.begin)
                answer = await self._forwarder.answer(upstream, request)
                try:
                    await _stream(exchange, answer, body, watch)
                finally:
                    answer.close()
        finally:
            upstream.leave(quota)


async def _stream(
    exchange: Exchange, answer: Answer, body: RequestBody, watch: DisconnectWatch
) -> None:
    if answer.status < 200:
        raise UpstreamFailed  # 101: nobody asked for another protocol
    headers = response_headers(answer.headers, answer.status)
    early = not body.complete
    if early:
        headers.append((b"connection", b"close"))
    await exchange.start(answer.status, headers)
    last = await _all_but_last(exchange, answer)
    watch.end()
    if early:
        await exchange.write(last)
        await exchange.linger()
        last = b""
    await exchange.finish(last)


async def _all_but_last(exchange: Exchange, answer: Answer) -> bytes:
    """Pass the pieces on as they come and return the last one, for one write less."""
    try:
        piece, last = await answer.next()
        while not last:
            await exchange.write(piece)
            piece, last = await answer.next()
    except (AnswerGarbled, TimeoutError) as error:
        raise AnswerBroken from error
    return piece
