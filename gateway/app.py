"""The gateway's composition root: a bare ASGI application between the clients and the services."""

import resource
from functools import partial
from importlib.metadata import version

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from gateway.client.request_bodies import BodyLimits, RequestBodies
from gateway.client.server_protocol import HeadLimits, bounded_protocol
from gateway.dispatcher import Authenticate, Dispatcher
from gateway.documents.gateway_endpoints import GatewayEndpoints
from gateway.documents.upstream_documents import (
    CachedBytes,
    MergedDocument,
    Readiness,
    Upstreams,
    ready_check,
    revocation_list_fetcher,
)
from gateway.limits.in_flight import InFlightLimit
from gateway.limits.quotas import Quotas
from gateway.limits.returning_clients import ReturningClients
from gateway.response_stream import ResponseStream
from gateway.revocations.revocation_feed import RevocationFeed
from gateway.revocations.revocation_store import RevocationStore
from gateway.routes import ROUTES, Quota, RouteTable, Service
from gateway.settings import Settings
from gateway.upstream.circuit_breaker import CircuitBreaker
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.instance_resolver import InstanceResolver, ResolveName, system_resolve
from gateway.upstream.instances import Upstream
from shared.actors import Actor
from shared.logging import configure_logging
from shared.service import operations_port, uvicorn_config
from shared.settings import load_settings
from shared.tokens import ServiceSigner, TokenVerifier

_DOCUMENT_SECONDS = 10.0
_READINESS_SECONDS = 1.0


class Gateway:
    """The ASGI application. Its session to the services lives as long as the server does."""

    def __init__(self, settings: Settings, *, resolve: ResolveName = system_resolve) -> None:
        verifier = TokenVerifier.from_settings(settings)
        table, upstreams = RouteTable(), _upstreams(settings)
        self.upstreams = upstreams
        returning_clients = ReturningClients()
        self.bodies = RequestBodies(_body_limits(settings))
        self._forwarder = Forwarder(
            connect_timeout=settings.connect_timeout, idle_timeout=settings.idle_timeout
        )
        self._resolver = InstanceResolver(
            upstreams.values(),
            self._forwarder.close_connections,
            every=settings.resolve_seconds,
            resolve=resolve,
        )
        self.revocations = RevocationStore(blind_limit=settings.blind_limit)
        signer = ServiceSigner(settings.internal_key.get_secret_value())
        self.revocation_feed = RevocationFeed(
            self.revocations,
            settings.rabbitmq_url,
            revocation_list_fetcher(self._forwarder, upstreams[Service.IDENTITY], signer),
        )
        self._quotas = Quotas(settings)
        readiness = _readiness(self._forwarder, upstreams, verifier, self.revocations)
        self.checks = readiness.checks
        document = MergedDocument(self._forwarder, upstreams, table, version=version("carnet"))
        self._dispatcher = Dispatcher(
            settings,
            table=table,
            upstreams=upstreams,
            response_stream=ResponseStream(self._forwarder, returning_clients),
            endpoints=GatewayEndpoints(
                document=CachedBytes(document.fetch, seconds=_DOCUMENT_SECONDS),
                readiness=CachedBytes(readiness.fetch, seconds=_READINESS_SECONDS),
            ),
            quotas=self._quotas,
            bodies=self.bodies,
            returning_clients=returning_clients,
            authenticate=_authenticate(verifier, self.revocations),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._dispatcher.handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise RuntimeError(f"the gateway does not speak {scope['type']}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._forwarder, self._resolver.running(), self.revocation_feed.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await self._quotas.close()
        await send({"type": "lifespan.shutdown.complete"})


def _authenticate(verifier: TokenVerifier, revocations: RevocationStore) -> Authenticate:
    async def authenticate(token: str) -> Actor:
        actor = await verifier.verify(token)
        # After the verifier, which remembers good tokens: a revocation ends them all the same.
        revocations.check(actor)
        return actor

    return authenticate


def _readiness(
    forwarder: Forwarder,
    upstreams: Upstreams,
    verifier: TokenVerifier,
    revocations: RevocationStore,
) -> Readiness:
    async def revocations_are_current() -> bool:
        return revocations.is_current

    own = {"sign-in keys": verifier.keys.ready, "revocations": revocations_are_current}
    services = {
        service.value: ready_check(forwarder, upstream) for service, upstream in upstreams.items()
    }
    return Readiness(own, services)


def _upstreams(settings: Settings) -> Upstreams:
    return {
        service: Upstream(
            service,
            settings.instances(service),
            in_flight=_in_flight_limit(service, settings),
            circuit=partial(
                CircuitBreaker,
                service.value,
                failures=settings.circuit_failures,
                pause=settings.circuit_pause,
                refusal_pause=settings.pause_after_refusal,
            ),
        )
        for service in Service
    }


def _in_flight_limit(service: Service, settings: Settings) -> InFlightLimit:
    """The places at a service: a class has some of its own where the service has routes of it."""
    classes = {route.quota for route in ROUTES if route.service is service}
    own = {
        Quota.SIGN_IN: settings.sign_in_in_flight_limit,
        Quota.WEBHOOK: settings.webhook_in_flight_limit,
    }
    return InFlightLimit(
        settings.in_flight_limit,
        {quota: limit for quota, limit in own.items() if quota in classes},
    )


def _body_limits(settings: Settings) -> BodyLimits:
    return BodyLimits(
        size=settings.body_limit,
        memory=settings.body_memory,
        timeout=settings.body_timeout,
        rate=settings.body_rate,
        max_seconds=settings.body_longest,
    )


def server_config(gateway: Gateway, settings: Settings) -> uvicorn.Config:
    """How the gateway listens: with bounded heads."""
    config = uvicorn_config(gateway, settings.host, settings.port)
    limits = HeadLimits(settings.head_limit, settings.head_timeout, settings.tls)
    config.http = bounded_protocol(limits)
    return config


def allow_many_connections(wanted: int = 65_536) -> None:
    """Raise the process's own limit of open files as far as the system lets it.

    A usual limit is 1024: so many idle connections would keep everybody else from connecting,
    before any limit of ours is reached.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    server = uvicorn.Server(server_config(gateway, settings))
    async with operations_port(settings, gateway.checks):
        await server.serve()


def main() -> None:
    """Run the gateway until SIGTERM. Raises SystemExit that names bad settings."""
    settings = load_settings(Settings)
    configure_logging("gateway", level=settings.log_level, style=settings.log_format)
    allow_many_connections()
    uvloop.run(_serve(settings))


if __name__ == "__main__":
    main()
