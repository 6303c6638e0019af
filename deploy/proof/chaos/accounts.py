"""The accounts of the run's organizations at the card gateway.

They are connected before the faults: the gateway has an account whose owner went through the
onboarding, and the services have the rows that a connection leaves.
"""

import httpx

from deploy.proof.chaos.platform import Platform

COUNTRY = "DE"

# What payments stores of a connected account, and the copy that its event leads to in vouchers.
_CONNECT = """
WITH account AS (
    INSERT INTO payments.payment_accounts (organization_id, payment_gateway, gateway_account,
        status, live, country, currency, charges_enabled, payouts_enabled, requirements,
        created_at, updated_at, version)
    VALUES ($1, 'stripe', $2, 'connected', false, $3, 'EUR', true, true, '[]', now(), now(), 1)
    RETURNING id, version, organization_id, status, charges_enabled, live
)
INSERT INTO vouchers.payment_account_copies (id, version, organization_id, status,
    charges_enabled, live)
SELECT id, version, organization_id, status, charges_enabled, live FROM account RETURNING id
"""


async def connect_account(platform: Platform, organization_id: int) -> str:
    """Connect a new account of an organization; return its id. Raises httpx.HTTPError."""
    account = await _post(platform.bank, "/v1/accounts", {"type": "standard", "country": COUNTRY})
    await _post(platform.bank, f"/_test/accounts/{account}", {"outcome": "complete"})
    await platform.rows(_CONNECT, organization_id, account, COUNTRY)
    return account


async def _post(bank: httpx.AsyncClient, path: str, form: dict[str, str]) -> str:
    answer = await bank.post(path, data=form)
    return str(answer.raise_for_status().json()["id"])
