"""The users of the tests, and the steps that most tests begin with."""

from datetime import date, timedelta
from typing import Any

import httpx

from services.vouchers.tests.outside import (
    CLIENT,
    FREE_CLIENT,
    ORGANIZATION,
    OTHER_CLIENT,
    OTHER_ORGANIZATION,
    SECOND_CLIENT,
)
from shared.db import now
from shared.testing import Database, Tokens

Headers = dict[str, str]

TYPE: dict[str, Any] = {
    "name": "Ten sessions",
    "session_name": "Individual therapy",
    "total_sessions": 10,
    "backup_sessions": 2,
    "session_duration_minutes": 60,
    "max_clients_per_session": 1,
    "frequency": "weekly",
    "price": 399.99,
    "validity_days": 90,
    "booking_rules": {
        "monday": {"enabled": True, "start_time": "09:00", "end_time": "17:00"},
        "sunday": {"enabled": False},
    },
}


class People:
    """Headers of each kind of caller."""

    def __init__(self, tokens: Tokens) -> None:
        self.anonymous: Headers = {}
        self.admin = tokens.bearer(1, "admin")
        self.owner = tokens.bearer(11, "organization_owner", ORGANIZATION)
        self.therapist = tokens.bearer(12, "therapist", ORGANIZATION)
        self.staff = tokens.bearer(13, "staff", ORGANIZATION)
        self.manager = tokens.bearer(
            14, "staff", ORGANIZATION, ("manage_vouchers", "manage_voucher_types")
        )
        self.client = tokens.bearer(CLIENT, "client", ORGANIZATION)
        self.second_client = tokens.bearer(SECOND_CLIENT, "client", ORGANIZATION)
        self.other_owner = tokens.bearer(15, "organization_owner", OTHER_ORGANIZATION)
        self.other_therapist = tokens.bearer(16, "therapist", OTHER_ORGANIZATION)
        self.other_client = tokens.bearer(OTHER_CLIENT, "client", OTHER_ORGANIZATION)
        self.free_client = tokens.bearer(FREE_CLIENT, "client")

    def all(self) -> dict[str, Headers]:
        """Return every caller by name."""
        return dict(vars(self))


def types_path(organization_id: int = ORGANIZATION) -> str:
    """Return the path of an organization's voucher types."""
    return f"/api/organizations/{organization_id}/voucher-types"


async def new_type(
    client: httpx.AsyncClient,
    headers: Headers,
    organization_id: int = ORGANIZATION,
    **changes: Any,
) -> dict[str, Any]:
    """Create a voucher type and return it."""
    path = types_path(organization_id)
    answer = await client.post(path, json={**TYPE, **changes}, headers=headers)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def buy(
    client: httpx.AsyncClient, headers: Headers, voucher_type_id: int, /, **changes: Any
) -> httpx.Response:
    """Buy a voucher by card and return the answer."""
    order = {
        "voucher_type_id": voucher_type_id,
        "payment_method": "credit_card",
        "payment_token": "pm_card_visa",
    }
    return await client.post("/api/vouchers/purchase", json={**order, **changes}, headers=headers)


async def new_voucher(client: httpx.AsyncClient, people: People, **changes: Any) -> dict[str, Any]:
    """Sell an active voucher of a new type to our client and return it."""
    kind = await new_type(client, people.owner, **changes)
    answer = await buy(client, people.client, kind["id"])
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def redeem(
    client: httpx.AsyncClient, headers: Headers, voucher_id: int, **order: Any
) -> httpx.Response:
    """Spend a session and return the answer."""
    path = f"/api/vouchers/{voucher_id}/redemptions"
    return await client.post(path, json=order, headers=headers)


async def sold_earlier(database: Database, voucher: dict[str, Any], days: int) -> dict[str, Any]:
    """Move a voucher's first and last day into the past; return the voucher with these days."""
    first, last = (
        date.fromisoformat(voucher[name]) - timedelta(days=days)
        for name in ("valid_from", "valid_until")
    )
    async with database.admin() as connection:
        await connection.execute(
            "UPDATE vouchers SET valid_from = $1, valid_until = $2 WHERE id = $3",
            first,
            last,
            voucher["id"],
        )
    return {**voucher, "valid_from": first.isoformat(), "valid_until": last.isoformat()}


async def expire(database: Database, voucher: dict[str, Any]) -> dict[str, Any]:
    """Expire a voucher whose last day was five days ago; return the voucher with its days."""
    days = (date.fromisoformat(voucher["valid_until"]) - now().date()).days + 5
    earlier = await sold_earlier(database, voucher, days)
    async with database.admin() as connection:
        statement = "UPDATE vouchers SET status = 'expired' WHERE id = $1"
        await connection.execute(statement, voucher["id"])
    return {**earlier, "status": "expired"}
