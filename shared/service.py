"""The HTTP application of a service: its construction, and the server that runs it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import structlog
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.asyncapi import asyncapi_router
from shared.changes import Catalogue
from shared.clients import ServiceClients
from shared.context import RequestContext
from shared.db import make_engine
from shared.denials import Denials
from shared.failpoints import warn_if_set
from shared.fields import accept_local_addresses
from shared.http_protocol import HttpProtocol
from shared.logging import configure_logging
from shared.mail.settings import MailSettings, encryption_of
from shared.maintenance import refuse_to_start_once_reachable
from shared.openapi import describe
from shared.outages import UNREACHABLE
from shared.problems import install_error_handlers
from shared.settings import ProcessSettings, ServiceSettings
from shared.shapes import published_shapes
from shared.telemetry import RequestMetrics
from shared.tokens import Keys, TokenVerifier
from shared.transactions import Transactions
from shared.version import VERSION

log = structlog.get_logger(__name__)

ReadinessCheck = Callable[[], Awaitable[bool]]
"""Returns whether something that a process needs is available."""


def create_service(
    name: str,
    settings: ServiceSettings,
    catalogue: Catalogue,
    routers: Sequence[APIRouter],
    *,
    title: str,
    package: str | None = None,
    clients: ServiceClients | None = None,
) -> FastAPI:
    """Return a service's application with its database, tokens, errors, health and metrics.

    `package` is the service's, which holds the shapes of its events; without one it publishes none.
    The application's state has `transactions`, `verifier`, `internal_keys`, `clients`, `denials`
    and `settings`, for the dependencies that need them.
    """
    accept_local_addresses(settings.local_addresses)
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    mail = encryption_of(settings) if isinstance(settings, MailSettings) else None
    transactions = Transactions(engine, f"carnet/{name}", catalogue, mail=mail)
    denials = Denials(transactions)
    app = FastAPI(
        title=title,
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan_of(engine.dispose, clients, denials),
        generate_unique_id_function=lambda route: f"{name}_{route.name}",
    )
    app.state.service = name
    app.state.settings = settings
    app.state.transactions = transactions
    app.state.denials = denials
    app.state.verifier = TokenVerifier.from_settings(settings)
    app.state.internal_keys = Keys(pinned=settings.internal_jwks)
    app.state.clients = clients
    install_error_handlers(app)
    checks: dict[str, ReadinessCheck] = {
        "database": database_check(app.state.transactions),
        "sign-in keys": app.state.verifier.keys.ready,
    }
    app.state.checks = checks
    app.include_router(health_router(checks))
    shapes = published_shapes(package) if package else {}
    app.include_router(asyncapi_router(shapes, title))
    for router in routers:
        app.include_router(router)
    app.add_middleware(RequestMetrics)
    app.add_middleware(RequestContext)
    app.add_middleware(AnswersHead)
    describe(app)
    return app


class AnswersHead:
    """Pure ASGI middleware that answers HEAD as GET, for every path that answers GET.

    The server leaves out the body (RFC 9110, section 9.3.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def lifespan_of(
    dispose: Callable[[], Awaitable[None]], clients: ServiceClients | None, denials: Denials
) -> Callable[[FastAPI], Any]:
    """Return a lifespan that writes denials, and closes all connections at its end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(dispose)
            if clients is not None:
                stack.push_async_callback(clients.aclose)
            await stack.enter_async_context(denials.running())
            yield

    return lifespan


def database_check(transactions: Transactions) -> ReadinessCheck:
    """Return a check that the database executes a statement."""

    async def check() -> bool:
        try:
            async with asyncio.timeout(2), transactions.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except UNREACHABLE:
            return False
        return True

    return check


def health_router(checks: dict[str, ReadinessCheck]) -> APIRouter:
    """Return /health (the process runs) and /health/ready (all that it needs is available)."""
    router = APIRouter(include_in_schema=False)

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/health/ready")
    async def ready(response: Response) -> dict[str, Any]:
        missing = [name for name, check in checks.items() if not await check()]
        if missing:
            response.status_code = 503
            response.headers["Retry-After"] = "2"
            return {"status": "not ready", "missing": missing}
        return {"status": "ready"}

    return router


def operations_app(checks: dict[str, ReadinessCheck]) -> FastAPI:
    """Return the application of the operations port: metrics and health."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(health_router(checks))

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


def uvicorn_config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    """Return the configuration of a server. Logging is configured by `shared.logging`."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
        http=HttpProtocol,
        ws="none",
    )


def serve(app: FastAPI) -> None:
    """Run a service's application until SIGTERM, with its operations port beside it.

    Raises SystemExit while its schema has a maintenance notice.
    """
    settings: ServiceSettings = app.state.settings
    configure_logging(app.state.service, level=settings.log_level, style=settings.log_format)
    warn_if_set()
    if settings.idempotency_secret is None:
        log.warning("idempotency_secret_missing", remedy="see docs/settings.md")
    server = uvicorn.Server(uvicorn_config(app, settings.host, settings.port))

    async def run() -> None:
        async with operations_port(settings, app.state.checks):
            await refuse_to_start_once_reachable(app.state.transactions.engine)
            await server.serve()

    uvloop.run(run())


@asynccontextmanager
async def operations_port(
    settings: ProcessSettings, checks: dict[str, ReadinessCheck]
) -> AsyncIterator[None]:
    """Serve metrics and health on the operations port, if there is one, while the block runs.

    The server runs in the same event loop and handles no signals.
    """
    if not settings.operations_port:
        yield
        return
    config = uvicorn_config(operations_app(checks), settings.host, settings.operations_port)
    server = _QuietServer(config)
    task = asyncio.ensure_future(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _QuietServer(uvicorn.Server):
    """A server that does not handle signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
