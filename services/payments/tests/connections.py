"""Connected accounts in the database of a test."""

from services.payments.tests.signals import ORGANIZATION
from shared.testing import Database

_INSERT = (
    "INSERT INTO payment_accounts (organization_id, payment_gateway, gateway_account, status, live,"
    " country, currency, charges_enabled, payouts_enabled, requirements, created_at, updated_at,"
    " version) VALUES ($1, 'stripe', $2, 'connected', false, 'US', 'USD', $3, $3, '[]', now(),"
    " now(), 1) RETURNING id"
)


async def connect(
    database: Database,
    account: str,
    organization_id: int = ORGANIZATION,
    *,
    charges_enabled: bool = True,
) -> None:
    """Store that an organization has connected an account."""
    await database.rows(_INSERT, organization_id, account, charges_enabled)


async def disconnect(database: Database, account: str) -> None:
    """Store that an account was disconnected."""
    await database.rows(
        "UPDATE payment_accounts SET status = 'disconnected', disconnected_at = now(),"
        " charges_enabled = false WHERE gateway_account = $1 RETURNING id",
        account,
    )
