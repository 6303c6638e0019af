"""Handles each request in a task: refuses it, answers it itself, or forwards it to its service."""

from collections.abc import Awaitable

import structlog
from starlette.types import Receive, Scope, Send

from gateway.client.http_exchange import HttpExchange
from gateway.client.request_bodies import RequestBodies
from gateway.documents.gateway_endpoints import GatewayEndpoints
from gateway.errors import (
    BodyTooSlow,
    ClientDisconnected,
    InternalError,
    ResponseInterrupted,
    TooManyBodies,
)
from gateway.headers import RequestHead
from gateway.request_rules import RequestRules
from gateway.response_stream import ResponseStream
from gateway.routes import Route
from gateway.telemetry import COUNTERS, AccessLog, observe
from shared.errors import CLIENT_CLOSED, AppError
from shared.networks import network_of

log = structlog.get_logger(__name__)


class Dispatcher:
    """Handles every HTTP request that the direct path does not complete."""

    def __init__(
        self,
        rules: RequestRules,
        *,
        response_stream: ResponseStream,
        endpoints: GatewayEndpoints,
        bodies: RequestBodies,
        access_log: AccessLog,
    ) -> None:
        self._rules = rules
        self._response_stream = response_stream
        self._endpoints = endpoints
        self._bodies = bodies
        self._access_log = access_log

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request completely; then count it and write its log line."""
        exchange = self._rules.open_exchange(scope)
        exchange.connect(receive, send)
        COUNTERS.in_flight += 1
        await self.complete(exchange, self._answer(exchange))

    async def complete(self, exchange: HttpExchange, work: Awaitable[None]) -> None:
        """Do the work that answers an exchange, answer its errors, and end the exchange."""
        try:
            await self._handle_errors(exchange, work)
        except ClientDisconnected:
            exchange.log_status = CLIENT_CLOSED
        except ResponseInterrupted as error:
            # Without the last piece of the body, the server closes the connection.
            cause = repr(error.__cause__)
            log.warning("answer_broken", request_id=exchange.request_id, error=cause)
        finally:
            self.end(exchange)

    def end(self, exchange: HttpExchange) -> None:
        """Count a completed request and write its log line."""
        COUNTERS.in_flight -= 1
        observe(self._access_log, exchange)

    async def _handle_errors(self, exchange: HttpExchange, work: Awaitable[None]) -> None:
        try:
            await work
        except AppError as error:
            await self._refuse(exchange, error)
        except (ClientDisconnected, ResponseInterrupted):
            raise
        except Exception:
            log.exception("request_failed", request_id=exchange.request_id)
            await self._refuse(exchange, InternalError())

    async def _refuse(self, exchange: HttpExchange, error: AppError) -> None:
        if exchange.started:
            raise ResponseInterrupted from error
        head = exchange.head
        # The server reads and discards a short body; it must not read an endless one.
        is_slow = isinstance(error, BodyTooSlow | TooManyBodies)
        is_endless = head is None or head.chunked or is_slow
        is_too_large = head is not None and (head.content_length or 0) > self._bodies.limits.size
        await exchange.send_problem(error, linger=is_endless or is_too_large)

    async def _answer(self, exchange: HttpExchange) -> None:
        head = self._rules.read_request(exchange)
        if self._rules.cors.is_on and await self._preflight(exchange, head):
            return
        if await self._endpoints.handle(exchange, exchange.scope["raw_path"]):
            return
        route = self._rules.find_route(exchange)
        await self._rules.authorize(exchange, head, route)
        await self._receive_and_forward(exchange, head, route)

    async def _preflight(self, exchange: HttpExchange, head: RequestHead) -> bool:
        headers = self._rules.cors.preflight(exchange.scope["method"], head)
        if headers is None:
            return False
        exchange.template = "preflight"
        await exchange.start(204, headers)
        await exchange.finish()
        return True

    async def _receive_and_forward(
        self, exchange: HttpExchange, head: RequestHead, route: Route
    ) -> None:
        """Receive the body and forward the request. Only then does it take a place there."""
        if not head.has_body:
            forwarding = self._rules.forwarding(exchange, head, route, None)
            await self._response_stream.forward(exchange, forwarding)
            return
        network = network_of(exchange.client_address)
        with self._bodies.incoming(exchange.receive, head, network) as incoming:
            body = await incoming.receive()
            if incoming.arrived_in_pieces:
                await self._rules.authenticate_again(head, route)
            forwarding = self._rules.forwarding(exchange, head, route, body)
            await self._response_stream.forward(exchange, forwarding)
