"""The payments service's HTTP application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import APIRouter, FastAPI

from services.payments.documents import Logos
from services.payments.endpoints import (
    internal,
    invoices,
    organizations,
    payment_accounts,
    payments,
    payouts,
    platform_fees,
    saved_cards,
    webhooks,
)
from services.payments.events import CATALOGUE
from services.payments.gateways import Gateways
from services.payments.settings import Settings
from shared.service import create_service, serve
from shared.settings import load_settings

NAME = "payments"
WEBHOOKS_AT_ONCE = 4
DOCUMENTS_AT_ONCE = 2


def _closing(*connections: Gateways | Logos) -> APIRouter:
    """Return a router without routes that closes connections at the end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for connection in connections:
                await connection.aclose()

    return APIRouter(lifespan=lifespan)


def create_app(
    settings: Settings, *, gateways: Gateways | None = None, logos: Logos | None = None
) -> FastAPI:
    """Return the application. In tests, `gateways` and `logos` replace the network."""
    gateways = gateways or settings.open_gateways()
    logos = logos or Logos()
    app = create_service(
        NAME,
        settings,
        CATALOGUE,
        [
            webhooks.routes,
            saved_cards.routes,
            saved_cards.organization_routes,
            payments.routes,
            invoices.organization_routes,
            invoices.payment_routes,
            organizations.routes,
            platform_fees.routes,
            payment_accounts.routes,
            payouts.routes,
            internal.routes,
            _closing(gateways, logos),
        ],
        title="Carnet payments",
        package=__package__,
    )
    app.state.gateways = gateways
    app.state.logos = logos
    app.state.document_limit = anyio.CapacityLimiter(DOCUMENTS_AT_ONCE)
    app.state.webhook_limit = anyio.CapacityLimiter(WEBHOOKS_AT_ONCE)
    return app


if __name__ == "__main__":
    serve(create_app(load_settings(Settings)))
