"""The five services' applications, for tests of what they offer."""

import secrets
from typing import Any

from fastapi import FastAPI

from gateway.routes import Service
from services.audit.app import create_app as audit
from services.audit.settings import Settings as AuditSettings
from services.identity.app import create_app as identity
from services.identity.settings import Settings as IdentitySettings
from services.organizations.app import create_app as organizations
from services.organizations.settings import Settings as OrganizationsSettings
from services.payments.app import create_app as payments
from services.payments.models import Method
from services.payments.settings import Settings as PaymentsSettings
from services.vouchers.app import create_app as vouchers
from services.vouchers.settings import Settings as VouchersSettings
from shared.testing import Tokens

NOWHERE = "http://127.0.0.1:9"


def applications(tokens: Tokens) -> dict[Service, FastAPI]:
    """Return every service's application; none of them is connected to anything."""
    servers = {"database_url": "postgresql://u:p@127.0.0.1:9/x", "rabbitmq_url": "amqp://u:p@x/"}

    def settings_of(service: Service) -> dict[str, Any]:
        return {**servers, **tokens.settings(service.value)}

    return {
        Service.IDENTITY: identity(
            IdentitySettings(
                **settings_of(Service.IDENTITY),
                organizations_url=NOWHERE,
                signing_secret=secrets.token_urlsafe(32),
            )
        ),
        Service.ORGANIZATIONS: organizations(
            OrganizationsSettings(**settings_of(Service.ORGANIZATIONS), identity_url=NOWHERE)
        ),
        Service.VOUCHERS: vouchers(
            VouchersSettings(
                **settings_of(Service.VOUCHERS),
                payments_url=NOWHERE,
                organizations_url=NOWHERE,
                identity_url=NOWHERE,
            )
        ),
        Service.PAYMENTS: payments(
            PaymentsSettings(
                **settings_of(Service.PAYMENTS), gateways=dict.fromkeys(Method, "manual")
            )
        ),
        Service.AUDIT: audit(AuditSettings(**settings_of(Service.AUDIT))),
    }
