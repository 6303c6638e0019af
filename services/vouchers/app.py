"""The vouchers service's HTTP application."""

from collections.abc import Mapping

import httpx
from fastapi import FastAPI

from services.vouchers.endpoints import (
    calendars,
    feeds,
    redemptions,
    refunds,
    reservations,
    series,
    sessions,
    transfers,
    voucher_types,
    vouchers,
)
from services.vouchers.events import CATALOGUE
from services.vouchers.settings import Settings, address_encryption_of
from shared.clients import ServiceClients
from shared.service import create_service, serve
from shared.settings import load_settings
from shared.tokens import ServiceSigner

NAME = "vouchers"

CHARGE_SECONDS = 25.0
"""Longer than payments waits for the card gateway, so that its response arrives here."""


def clients_of(
    settings: Settings, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> ServiceClients:
    """Return the clients of the services that this one calls."""
    addresses = {
        "payments": settings.payments_url,
        "organizations": settings.organizations_url,
        "identity": settings.identity_url,
    }
    signer = ServiceSigner(settings.internal_key.get_secret_value())
    return ServiceClients(signer, addresses, timeout=CHARGE_SECONDS, transports=transports)


def create_app(
    settings: Settings, *, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> FastAPI:
    """Return the application. In tests, `transports` replace the network to other services."""
    app = create_service(
        NAME,
        settings,
        CATALOGUE,
        [
            voucher_types.offers,
            voucher_types.organization,
            vouchers.vouchers,
            vouchers.organization,
            redemptions.redemptions,
            refunds.refunds,
            transfers.transfers,
            calendars.organization,
            series.organization,
            sessions.organization,
            sessions.sessions,
            reservations.of_vouchers,
            reservations.of_types,
            reservations.reservations,
            reservations.of_sessions,
            reservations.organization,
            feeds.feeds,
            feeds.calendars,
        ],
        title="Carnet vouchers",
        package=__package__,
        clients=clients_of(settings, transports),
    )
    app.state.accounts = settings.accounts
    app.state.public_url = settings.public_url
    app.state.address_encryption = address_encryption_of(settings)
    return app


if __name__ == "__main__":
    serve(create_app(load_settings(Settings)))
