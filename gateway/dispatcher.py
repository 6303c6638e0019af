"""Handles each request: refuses it, answers it itself, or forwards it to its service."""

from collections.abc import Awaitable, Callable

import structlog
from starlette.types import Receive, Scope, Send

from gateway.client.cors import Cors
from gateway.client.http_exchange import HttpExchange
from gateway.client.request_bodies import RequestBodies
from gateway.client.trusted_proxies import TrustedProxies
from gateway.documents.gateway_endpoints import GatewayEndpoints
from gateway.errors import (
    BodyTooSlow,
    ClientDisconnected,
    InternalError,
    MalformedRequest,
    ResponseInterrupted,
    TooManyBodies,
    UnknownMethod,
    UnknownPath,
)
from gateway.headers import RequestHead, read_head, security_headers
from gateway.limits.in_flight import RequestSource
from gateway.limits.quotas import Quotas
from gateway.limits.returning_clients import ReturningClients
from gateway.response_stream import ResponseStream
from gateway.routes import Access, Quota, Route, RouteTable
from gateway.settings import Settings
from gateway.telemetry import IN_FLIGHT, METHODS, access_log, observe
from gateway.upstream.forwarder import UpstreamRequest
from gateway.upstream.instances import Upstreams
from shared.actors import Actor
from shared.context import accepted_request_id
from shared.errors import CLIENT_CLOSED, AppError, Unauthenticated
from shared.networks import network_of

log = structlog.get_logger(__name__)

Authenticate = Callable[[str], Awaitable[Actor]]
"""Returns the actor of an access token. Raises the AppError to answer if it is not valid."""


class Dispatcher:
    """Handles every HTTP request and defines the order of the checks."""

    def __init__(
        self,
        settings: Settings,
        *,
        table: RouteTable,
        upstreams: Upstreams,
        response_stream: ResponseStream,
        endpoints: GatewayEndpoints,
        quotas: Quotas,
        bodies: RequestBodies,
        returning_clients: ReturningClients,
        authenticate: Authenticate,
    ) -> None:
        self._settings = settings
        self._table = table
        self._upstreams = upstreams
        self._response_stream = response_stream
        self._endpoints = endpoints
        self._quotas = quotas
        self._bodies = bodies
        self._returning_clients = returning_clients
        self._authenticate = authenticate
        self._cors = Cors(settings.cors_origins)
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._security = security_headers(tls=settings.tls)
        self._access_log = access_log(level=settings.log_level, style=settings.log_format)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request completely; then count it and write its log line."""
        header = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        request_id = accepted_request_id(header.decode("latin-1") if header is not None else None)
        exchange = HttpExchange(scope, receive, send, request_id, self._security)
        IN_FLIGHT.inc()
        try:
            await self._handle_errors(exchange)
        except ClientDisconnected:
            exchange.log_status = CLIENT_CLOSED
        except ResponseInterrupted as error:
            # Without the last piece of the body, the server closes the connection.
            log.warning("answer_broken", request_id=request_id, error=repr(error.__cause__))
        finally:
            IN_FLIGHT.dec()
            observe(self._access_log, exchange)

    async def _handle_errors(self, exchange: HttpExchange) -> None:
        head: RequestHead | None = None
        try:
            head = read_head(exchange.scope["headers"], exchange.scope["http_version"])
            if self._cors.is_on:
                exchange.add_response_headers(self._cors.headers(head))
            await self._route_request(exchange, head)
        except AppError as error:
            await self._refuse(exchange, head, error)
        except (ClientDisconnected, ResponseInterrupted):
            raise
        except Exception:
            log.exception("request_failed", request_id=exchange.request_id)
            await self._refuse(exchange, head, InternalError())

    async def _refuse(
        self, exchange: HttpExchange, head: RequestHead | None, error: AppError
    ) -> None:
        if exchange.started:
            raise ResponseInterrupted from error
        # The server reads and discards a short body; it must not read an endless one.
        is_slow = isinstance(error, BodyTooSlow | TooManyBodies)
        is_endless = head is None or head.chunked or is_slow
        is_too_large = head is not None and (head.content_length or 0) > self._settings.body_limit
        await exchange.send_problem(error, linger=is_endless or is_too_large)

    async def _route_request(self, exchange: HttpExchange, head: RequestHead) -> None:
        scope = exchange.scope
        peer = scope["client"][0] if scope["client"] else ""
        forwarded_for = head.read.get(b"x-forwarded-for")
        exchange.client_address = self._proxies.client_address(peer, forwarded_for)
        if scope["method"] not in METHODS:
            raise UnknownMethod
        if not scope["query_string"].isascii():
            raise MalformedRequest("The query has bytes outside of ASCII. Percent-encode them.")
        if self._cors.is_on and await self._preflight(exchange, head):
            return
        raw_path: bytes = scope["raw_path"]
        if await self._endpoints.handle(exchange, raw_path):
            return
        route = self._table.find(raw_path)
        if route is None:
            raise UnknownPath
        exchange.template = route.template
        exchange.service = route.service.value
        await self._authorize_and_forward(exchange, head, route)

    async def _preflight(self, exchange: HttpExchange, head: RequestHead) -> bool:
        headers = self._cors.preflight(exchange.scope["method"], head)
        if headers is None:
            return False
        exchange.template = "preflight"
        await exchange.start(204, headers)
        await exchange.finish()
        return True

    async def _authorize_and_forward(
        self, exchange: HttpExchange, head: RequestHead, route: Route
    ) -> None:
        network = network_of(exchange.client_address)
        await self._quotas.take_from_address(route.quota, exchange.client_address)
        if route.access is Access.PROTECTED:
            actor = await self._authenticate(_bearer_token(head))
            exchange.user_id = actor.user_id
            await self._quotas.take_from_user(actor.user_id)
        if not head.has_body:
            await self._forward(exchange, head, route, network, None)
            return
        with self._bodies.incoming(exchange.receive, head, network) as incoming:
            body = await incoming.receive()
            if incoming.arrived_in_pieces and route.access is Access.PROTECTED:
                # The token may have expired or been revoked in the meantime.
                await self._authenticate(_bearer_token(head))
            await self._forward(exchange, head, route, network, body)

    async def _forward(
        self,
        exchange: HttpExchange,
        head: RequestHead,
        route: Route,
        network: str,
        body: bytes | None,
    ) -> None:
        """Forward a complete request to its service. Only now does it take a place there."""
        scope = exchange.scope
        headers = head.forwarded
        headers.append((b"x-request-id", exchange.request_id.encode("ascii")))
        headers.append((b"x-client-address", exchange.client_address.encode("ascii")))
        request = UpstreamRequest(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            headers,
            body,
            self._settings.silence_timeout(route.timeout),
            # Sign-in and webhooks ignore the key; every protected POST honours it.
            has_idempotency_key=route.access is Access.PROTECTED
            and b"idempotency-key" in head.read,
        )
        is_returning = route.quota is Quota.SIGN_IN and self._returning_clients.recognizes(
            head.read.get(b"cookie"), network
        )
        source = RequestSource(network, is_returning)
        upstream = self._upstreams[route.service]
        await self._response_stream.forward(exchange, upstream, route.quota, source, request)


def _bearer_token(head: RequestHead) -> str:
    """Return the token of `Authorization: Bearer` (RFC 6750). Raises Unauthenticated (401)."""
    scheme, _, token = head.read.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip():
        raise Unauthenticated
    return token.strip().decode("latin-1")
