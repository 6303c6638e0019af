"""Connected accounts and their payments in the database of a test."""

from typing import Any

import httpx

from services.payments.tests.signals import ORGANIZATION
from shared.testing import Database, Tokens

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


async def payment_of(database: Database) -> dict[str, Any]:
    """Return the columns of the only payment."""
    [row] = await database.rows("SELECT * FROM payment_transactions")
    return row


async def refund_of(payment_id: int, client: httpx.AsyncClient, tokens: Tokens) -> httpx.Response:
    """Refund 100.00 of a payment as the owner of its organization."""
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    path = f"/api/organizations/{ORGANIZATION}/payments/{payment_id}/refunds"
    return await client.post(path, json={"amount": 100}, headers=owner)
