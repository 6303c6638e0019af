"""A service's answer on its way to the client: streamed, or visibly broken off."""

from gateway.client.http_exchange import DisconnectWatch, Exchange
from gateway.errors import AnswerBroken, UpstreamFailed
from gateway.headers import response_headers
from gateway.limits.in_flight import Claimant
from gateway.limits.returning_clients import KnownClients
from gateway.routes import Quota
from gateway.upstream.connection import Answer, AnswerGarbled
from gateway.upstream.forwarder import Forwarder, Outgoing
from gateway.upstream.instances import Upstream


class Relay:
    """Carries one request to a service and the service's answer back."""

    def __init__(self, forwarder: Forwarder, known: KnownClients) -> None:
        self._forwarder = forwarder
        self._known = known

    async def carry(
        self,
        exchange: Exchange,
        upstream: Upstream,
        quota: Quota,
        claimant: Claimant,
        request: Outgoing,
    ) -> None:
        """Forward, and stream the answer with as much memory as one piece takes.

        Raises what Forwarder.answer raises while nothing was sent yet, AnswerBroken when the
        service breaks off later, ClientDisconnected when nobody is left to answer.
        """
        upstream.places.enter(quota, claimant)
        try:
            async with DisconnectWatch(exchange.receive) as watch:
                watch.begin()
                answer = await self._forwarder.answer(upstream, request)
                try:
                    if quota is Quota.SIGN_IN:
                        self._known.learn(answer.headers, claimant.network)
                    await _stream(exchange, answer, watch)
                finally:
                    answer.close()
        finally:
            upstream.places.leave(quota, claimant)


async def _stream(exchange: Exchange, answer: Answer, watch: DisconnectWatch) -> None:
    if answer.status < 200:
        raise UpstreamFailed  # 101: nobody asked for another protocol
    await exchange.start(answer.status, response_headers(answer.headers, answer.status))
    last = await _all_but_last(exchange, answer)
    watch.end()
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
