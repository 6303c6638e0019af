"""The settings and the network of a service under test."""

from typing import Any

import httpx
from pydantic import SecretStr

from services.vouchers.models import AccountMode
from services.vouchers.settings import Settings
from services.vouchers.tests.outside import Identity, Organizations, Payments
from shared.testing import Database, Tokens

Transports = dict[str, httpx.AsyncBaseTransport]


def settings_of(
    database: Database,
    tokens: Tokens,
    rabbitmq_url: SecretStr | str = "amqp://unused",
    accounts: AccountMode = AccountMode.INSTALLATION,
) -> Settings:
    """Return the settings of a service over a test's database."""
    shared_variables: dict[str, Any] = {"PAYMENTS_ACCOUNTS": accounts}
    return Settings(
        database_url=database.url,
        rabbitmq_url=rabbitmq_url,
        payments_url="http://payments",
        organizations_url="http://organizations",
        identity_url="http://identity",
        **shared_variables,
        **tokens.settings("vouchers"),
    )


def transports_of(
    payments: Payments, organizations: Organizations, identity: Identity
) -> Transports:
    """Return the network to the services that this one calls."""
    return {
        "payments": httpx.MockTransport(payments),
        "organizations": httpx.MockTransport(organizations),
        "identity": httpx.MockTransport(identity),
    }
