"""The rules that a request must satisfy before it is forwarded, in the order of their checks.

The dispatcher and the direct path both use them. Each raises the AppError that refuses the request.
"""

from starlette.types import Scope

from gateway.client.cors import Cors
from gateway.client.http_exchange import HttpExchange
from gateway.client.trusted_proxies import TrustedProxies
from gateway.errors import MalformedRequest, UnknownMethod, UnknownPath
from gateway.headers import RequestHead, read_head, security_headers
from gateway.limits.in_flight import RequestSource
from gateway.limits.quotas import Quotas
from gateway.limits.returning_clients import ReturningClients
from gateway.response_stream import Forwarding
from gateway.revocations.revocation_store import RevocationStore
from gateway.routes import Access, Quota, Route, RouteTable, TimeoutClass
from gateway.settings import Settings
from gateway.telemetry import METHODS
from gateway.upstream.forwarder import UpstreamRequest
from gateway.upstream.instances import Upstreams
from shared.actors import Actor
from shared.context import accepted_request_id
from shared.errors import Unauthenticated
from shared.networks import network_of
from shared.tokens import TokenVerifier


class RequestRules:
    """Checks requests, and builds what is sent to the service of an accepted one."""

    def __init__(
        self,
        settings: Settings,
        *,
        table: RouteTable,
        upstreams: Upstreams,
        quotas: Quotas,
        returning_clients: ReturningClients,
        verifier: TokenVerifier,
        revocations: RevocationStore,
    ) -> None:
        self.cors = Cors(settings.cors_origins)
        self._silence_timeouts = {kind: settings.silence_timeout(kind) for kind in TimeoutClass}
        self._table = table
        self._upstreams = upstreams
        self._quotas = quotas
        self._returning_clients = returning_clients
        self._verifier = verifier
        self._revocations = revocations
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._security = security_headers(tls=settings.tls)

    def open_exchange(self, scope: Scope) -> HttpExchange:
        """Return the exchange of a request, with its request id."""
        received_id = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                received_id = value.decode("latin-1")
                break
        return HttpExchange(scope, accepted_request_id(received_id), self._security)

    def read_request(self, exchange: HttpExchange) -> RequestHead:
        """Read the headers and the client's address; check them, the method and the query."""
        scope = exchange.scope
        head = exchange.head = read_head(scope["headers"], scope["http_version"])
        if self.cors.is_on:
            exchange.add_response_headers(self.cors.headers(head))
        peer = scope["client"][0] if scope["client"] else ""
        forwarded_for = head.read.get(b"x-forwarded-for")
        exchange.client_address = self._proxies.client_address(peer, forwarded_for)
        if scope["method"] not in METHODS:
            raise UnknownMethod
        if not scope["query_string"].isascii():
            raise MalformedRequest("The query has bytes outside of ASCII. Percent-encode them.")
        return head

    def find_route(self, exchange: HttpExchange) -> Route:
        """Find the route of the path. Raises MalformedPath (400) or UnknownPath (404)."""
        route = self._table.find(exchange.scope["raw_path"])
        if route is None:
            raise UnknownPath
        exchange.template = route.template
        exchange.service = route.service.value
        return route

    def find_verified_actor(self, head: RequestHead) -> Actor | None:
        """Return the actor if the token was verified recently, else None; nothing is counted.

        Raises Unauthenticated (401) if there is no token.
        """
        return self._verifier.find_cached(_bearer_token(head))

    async def authorize(self, exchange: HttpExchange, head: RequestHead, route: Route) -> None:
        """Count the request for its address, verify its token, and count it for its user.

        Raises TooManyRequests (429), Unauthenticated (401) or RevocationsUnknown (503).
        """
        await self._quotas.take_from_address(route.quota, exchange.client_address)
        if route.access is Access.PROTECTED:
            actor = await self._verifier.verify(_bearer_token(head))
            self._admit(exchange, actor)
            await self._quotas.take_from_user(actor.user_id)

    def authorize_at_once(self, exchange: HttpExchange, route: Route, actor: Actor | None) -> None:
        """Do the same for a verified actor, None on a public route, with local counters."""
        self._quotas.take_from_address_at_once(route.quota, exchange.client_address)
        if actor is not None:
            self._admit(exchange, actor)
            self._quotas.take_from_user_at_once(actor.user_id)

    def _admit(self, exchange: HttpExchange, actor: Actor) -> None:
        # A verified token is cached, so revocations are checked each time.
        self._revocations.check(actor)
        exchange.user_id = actor.user_id

    async def authenticate_again(self, head: RequestHead, route: Route) -> None:
        """Check the token once more: it may have expired or been revoked while a body arrived."""
        if route.access is Access.PROTECTED:
            self._revocations.check(await self._verifier.verify(_bearer_token(head)))

    def forwarding(
        self, exchange: HttpExchange, head: RequestHead, route: Route, body: bytes | None
    ) -> Forwarding:
        """Return what is sent to the service, and whose places it takes there."""
        scope, network = exchange.scope, network_of(exchange.client_address)
        headers = head.forwarded
        headers.append((b"x-request-id", exchange.request_id.encode("ascii")))
        headers.append((b"x-client-address", exchange.client_address.encode("ascii")))
        request = UpstreamRequest(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            headers,
            body,
            self._silence_timeouts[route.timeout],
            # Sign-in and webhooks ignore the key; every protected POST honours it.
            has_idempotency_key=route.access is Access.PROTECTED
            and b"idempotency-key" in head.read,
        )
        is_returning = route.quota is Quota.SIGN_IN and self._returning_clients.recognizes(
            head.read.get(b"cookie"), network
        )
        source = RequestSource(network, is_returning)
        return Forwarding(self._upstreams[route.service], route.quota, source, request)


def _bearer_token(head: RequestHead) -> str:
    """Return the token of `Authorization: Bearer` (RFC 6750). Raises Unauthenticated (401)."""
    scheme, _, token = head.read.get(b"authorization", b"").partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        raise Unauthenticated
    return token.decode("latin-1")
