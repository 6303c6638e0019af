"""The identity service's HTTP application."""

from collections.abc import Mapping

import httpx
from fastapi import FastAPI

from services.identity.endpoints.admin import admin
from services.identity.endpoints.auth import auth, keys
from services.identity.endpoints.dependants import of_members, own
from services.identity.endpoints.internal import internal
from services.identity.endpoints.links import links
from services.identity.endpoints.members import members
from services.identity.endpoints.second_factors import factors
from services.identity.events import CATALOGUE
from services.identity.service.resources import Resources
from services.identity.settings import Settings
from shared.clients import ServiceClients
from shared.service import create_service, serve
from shared.settings import load_settings
from shared.tokens import Keys, ServiceSigner, TokenVerifier

NAME = "identity"


def clients_of(
    settings: Settings, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> ServiceClients:
    """Return the clients of the services that this one calls."""
    return ServiceClients(
        ServiceSigner(settings.internal_key.get_secret_value()),
        {"organizations": settings.organizations_url},
        transports=transports,
    )


def create_app(
    settings: Settings, *, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> FastAPI:
    """Return the application. In tests, `transports` replace the network to other services."""
    clients = clients_of(settings, transports)
    app = create_service(
        NAME,
        settings,
        CATALOGUE,
        [auth, factors, links, keys, own, admin, members, of_members, internal],
        title="Carnet identity",
        package=__package__,
        clients=clients,
    )
    resources = Resources.of(settings, app.state.transactions, clients)
    app.state.resources = resources
    # Our own keys are in our own database: they need no request over HTTP.
    verifier_keys = Keys(fetch=resources.keyring.key_set)
    app.state.verifier = TokenVerifier(
        verifier_keys, settings.token_issuer, settings.token_audience
    )
    app.state.checks["sign-in keys"] = resources.keyring.ready
    return app


if __name__ == "__main__":
    serve(create_app(load_settings(Settings)))
