"""The organizations service's HTTP application."""

from collections.abc import Mapping

import httpx
from fastapi import FastAPI

from services.organizations.endpoints.internal import internal
from services.organizations.endpoints.organizations import admin, members
from services.organizations.events import CATALOGUE
from services.organizations.settings import Settings
from shared.clients import ServiceClients
from shared.service import create_service, serve
from shared.settings import load_settings
from shared.tokens import ServiceSigner

NAME = "organizations"


def clients_of(
    settings: Settings, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> ServiceClients:
    """Return the clients of the services that this one calls."""
    signer = ServiceSigner(settings.internal_key.get_secret_value())
    return ServiceClients(signer, {"identity": settings.identity_url}, transports=transports)


def create_app(
    settings: Settings, *, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> FastAPI:
    """Return the application. In tests, `transports` replace the network to other services."""
    return create_service(
        NAME,
        settings,
        CATALOGUE,
        [admin, members, internal],
        title="Carnet organizations",
        package=__package__,
        clients=clients_of(settings, transports),
    )


if __name__ == "__main__":
    serve(create_app(load_settings(Settings)))
