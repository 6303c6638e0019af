"""Forwards a usual request without a task, in the callbacks of its two connections.

A request is usual if it is complete, its token was verified before, and its service has an idle
connection; its response is, if it arrives in one piece. As soon as something has to be waited for,
or fails, the dispatcher continues in a task. See docs/decisions/0039-the-direct-path.md.
"""

from collections.abc import Awaitable
from typing import Final

from starlette.types import Receive, Scope, Send

from gateway.client.direct_cycle import DirectCycle
from gateway.client.http_exchange import HttpExchange
from gateway.client.request_bodies import MINIMUM_CHARGE, RequestBodies
from gateway.dispatcher import Dispatcher
from gateway.headers import RequestHead
from gateway.limits.quotas import Quotas
from gateway.request_rules import RequestRules
from gateway.response_stream import Forwarding, ResponseStream
from gateway.routes import Access, Route
from gateway.telemetry import COUNTERS
from gateway.upstream.forwarder import Attempt
from shared.actors import Actor
from shared.errors import CLIENT_CLOSED

# OPTIONS may be a preflight request, which the gateway answers itself.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class DirectPath:
    """Begins usual requests."""

    def __init__(
        self,
        rules: RequestRules,
        *,
        dispatcher: Dispatcher,
        response_stream: ResponseStream,
        quotas: Quotas,
        bodies: RequestBodies,
    ) -> None:
        self._rules = rules
        self._quotas = quotas
        self._dispatcher = dispatcher
        self._response_stream = response_stream
        # A complete body of this size uses no memory that is counted.
        self._body_limit = min(MINIMUM_CHARGE, bodies.limits.size)

    def begin(self, cycle: DirectCycle) -> bool:
        """Begin to answer a complete request. Return False, without any effect, if it cannot."""
        if cycle.scope["method"] not in _METHODS or not self._quotas.are_local:
            return False
        exchange = self._rules.open_exchange(cycle.scope)
        actor = None
        try:
            head = self._rules.read_request(exchange)
            if head.chunked or (head.content_length or 0) > self._body_limit:
                return False
            route = self._rules.find_route(exchange)
            if route.access is Access.PROTECTED:
                actor = self._rules.find_verified_actor(head)
                if actor is None:
                    return False
        except Exception:  # the dispatcher repeats these steps and answers the error
            return False
        request = DirectRequest(cycle, exchange, self._dispatcher, self._response_stream)
        request.begin(self._rules, head, route, actor)
        return True


class DirectRequest:
    """One request between its beginning and its response, or until a task continues."""

    __slots__ = (
        "_attempt",
        "_cycle",
        "_dispatcher",
        "_exchange",
        "_forwarding",
        "_response_stream",
    )

    _forwarding: Forwarding
    _attempt: Attempt

    def __init__(
        self,
        cycle: DirectCycle,
        exchange: HttpExchange,
        dispatcher: Dispatcher,
        response_stream: ResponseStream,
    ) -> None:
        self._cycle = cycle
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._response_stream = response_stream

    def begin(
        self, rules: RequestRules, head: RequestHead, route: Route, actor: Actor | None
    ) -> None:
        """Authorize the request and send it to its service."""
        exchange = self._exchange
        COUNTERS.in_flight += 1
        try:
            rules.authorize_at_once(exchange, route, actor)
            body = self._cycle.body if head.has_body else None
            self._forwarding = rules.forwarding(exchange, head, route, body)
            attempt = self._response_stream.begin(self._forwarding, self._complete)
        except Exception as error:
            self._continue_in_task(_raise(error))
            return
        if attempt is None:
            self._continue_in_task(self._response_stream.resume(exchange, self._forwarding, None))
            return
        self._attempt = attempt
        self._cycle.owner = self

    def abandon(self) -> None:
        """End the exchange: the client disconnected before its response."""
        self._response_stream.abandon(self._forwarding, self._attempt)
        self._exchange.log_status = CLIENT_CLOSED
        self._dispatcher.end(self._exchange)

    def wait_in_task(self) -> None:
        """Let a task wait for the response."""
        self._attempt.response.on_change = None
        self._resume()

    def _complete(self) -> None:
        """Send a response that arrived whole. A task continues with any other, or a failure."""
        response = self._attempt.response
        if not (response.complete and self._cycle.can_respond(response.status)):
            self._resume()
            return
        try:
            headers, body = self._response_stream.finish(
                self._exchange, self._forwarding, self._attempt
            )
        except Exception as error:
            self._continue_in_task(_raise(error))
            return
        self._dispatcher.end(self._exchange)
        self._cycle.respond(response.status, headers, body)

    def _resume(self) -> None:
        work = self._response_stream.resume(self._exchange, self._forwarding, self._attempt)
        self._continue_in_task(work)

    def _continue_in_task(self, work: Awaitable[None]) -> None:
        async def application(_scope: Scope, receive: Receive, send: Send) -> None:
            self._exchange.connect(receive, send)
            await self._dispatcher.complete(self._exchange, work)

        self._cycle.hand_over(application)


async def _raise(error: Exception) -> None:
    raise error
