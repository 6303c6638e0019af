"""The root of the gateway: connects its parts to one ASGI application and runs it."""

import resource
from importlib.metadata import version

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from gateway.client.request_bodies import RequestBodies
from gateway.client.server_protocol import HeadLimits, bounded_protocol
from gateway.direct_path import DirectPath
from gateway.dispatcher import Dispatcher
from gateway.documents.gateway_endpoints import GatewayEndpoints
from gateway.documents.upstream_documents import (
    CachedBytes,
    MergedDocument,
    Readiness,
    ready_check,
    revocation_list_fetcher,
)
from gateway.limits.quotas import Quotas
from gateway.limits.returning_clients import ReturningClients
from gateway.request_rules import RequestRules
from gateway.response_stream import ResponseStream
from gateway.revocations.revocation_feed import RevocationFeed
from gateway.revocations.revocation_store import RevocationStore
from gateway.routes import RouteTable, Service
from gateway.settings import Settings
from gateway.telemetry import access_log
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.instance_resolver import InstanceResolver, ResolveName, system_resolve
from gateway.upstream.instances import Upstreams, upstreams_of
from shared.logging import configure_logging
from shared.service import operations_port, uvicorn_config
from shared.settings import load_settings
from shared.tokens import ServiceSigner, TokenVerifier

_DOCUMENT_SECONDS = 10.0
_READINESS_SECONDS = 1.0


class Gateway:
    """The ASGI application. Its connections to the services last as long as the server runs."""

    def __init__(self, settings: Settings, *, resolve: ResolveName = system_resolve) -> None:
        verifier = TokenVerifier.from_settings(settings)
        table, upstreams = RouteTable(), upstreams_of(settings)
        self.upstreams = upstreams
        returning_clients = ReturningClients()
        self.bodies = RequestBodies.from_settings(settings)
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
        rules = RequestRules(
            settings,
            table=table,
            upstreams=upstreams,
            quotas=self._quotas,
            returning_clients=returning_clients,
            verifier=verifier,
            revocations=self.revocations,
        )
        response_stream = ResponseStream(self._forwarder, returning_clients)
        self._dispatcher = Dispatcher(
            rules,
            response_stream=response_stream,
            endpoints=GatewayEndpoints(
                document=CachedBytes(document.fetch, seconds=_DOCUMENT_SECONDS),
                readiness=CachedBytes(readiness.fetch, seconds=_READINESS_SECONDS),
            ),
            bodies=self.bodies,
            access_log=access_log(level=settings.log_level, style=settings.log_format),
        )
        self.direct_path = DirectPath(
            rules,
            dispatcher=self._dispatcher,
            response_stream=response_stream,
            quotas=self._quotas,
            bodies=self.bodies,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._dispatcher.handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            await receive()
            async with self._forwarder, self._resolver.running(), self.revocation_feed.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await self._quotas.close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            raise RuntimeError(f"the gateway does not support {scope['type']}")


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


def server_config(gateway: Gateway, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration, with limits on the head of a request."""
    config = uvicorn_config(gateway, settings.host, settings.port)
    limits = HeadLimits(settings.head_limit, settings.head_timeout, settings.tls)
    config.http = bounded_protocol(limits, gateway.direct_path.begin)
    return config


def allow_many_connections(count: int = 65_536) -> None:
    """Raise this process's limit of open files to `count`, or as far as the system allows.

    The usual limit is 1024. So few idle connections would keep other clients from connecting
    before any limit of the gateway is reached.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    server = uvicorn.Server(server_config(gateway, settings))
    async with operations_port(settings, gateway.checks):
        await server.serve()


def main() -> None:
    """Run the gateway until SIGTERM. Raises SystemExit if a setting is invalid; it names which."""
    settings = load_settings(Settings)
    configure_logging("gateway", level=settings.log_level, style=settings.log_format)
    allow_many_connections()
    uvloop.run(_serve(settings))


if __name__ == "__main__":
    main()
