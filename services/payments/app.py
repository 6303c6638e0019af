"""The payments service's HTTP application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import APIRouter, FastAPI

from services.payments.endpoints import gateway_webhooks, payments
from services.payments.events import CATALOGUE
from services.payments.gateways import Gateways
from services.payments.internal import internal
from services.payments.organization_endpoints import organization
from services.payments.settings import Settings
from shared.service import create_service, serve

NAME = "payments"
WEBHOOKS_AT_ONCE = 4


def _closing(gateways: Gateways) -> APIRouter:
    """Return a router without routes that closes the gateways' connections at the end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await gateways.aclose()

    return APIRouter(lifespan=lifespan)


def create_app(settings: Settings, *, gateways: Gateways | None = None) -> FastAPI:
    """Return the application; `gateways` replaces those that the settings name, in tests."""
    opened = gateways or settings.open_gateways()
    app = create_service(
        NAME,
        settings,
        CATALOGUE,
        [gateway_webhooks, payments, organization, internal, _closing(opened)],
        title="Carnet payments",
    )
    app.state.gateways = opened
    app.state.webhook_limit = anyio.CapacityLimiter(WEBHOOKS_AT_ONCE)
    return app


if __name__ == "__main__":
    environment = Settings()
    app = create_app(environment)
    serve(NAME, app, environment, app.state.checks)
