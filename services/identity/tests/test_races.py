"""Two requests that create the same row at once: one creates it, the other finds it."""

import asyncio
from typing import Any

import httpx
import pytest

from services.identity.bootstrap import BootstrapSettings, bootstrap
from services.identity.service import organizations
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ROUNDS = 40
"""The window is a few microseconds wide: one round would rarely meet it."""


def _order(organization_id: int, email: str) -> dict[str, Any]:
    return {
        "organization": {
            "id": organization_id,
            "version": 1,
            "slug": f"praxis-{organization_id}",
            "is_active": True,
        },
        "email": email,
        "name": "Olga",
        "password": "correct horse battery",
        "phone": None,
    }


async def test_copies_of_one_organization_taken_at_once_are_one(
    transactions: Transactions, database: Database
) -> None:
    async def take(organization_id: int) -> None:
        async with transactions.system() as session:
            slug = f"praxis-{organization_id}"
            fields = {"slug": slug, "is_active": True}
            await organizations.merge(session, organization_id, 1, fields)

    for organization_id in range(1, ROUNDS + 1):
        await asyncio.gather(*(take(organization_id) for _ in range(8)))
    copies = await database.rows("SELECT id FROM organization_copies")
    assert len(copies) == ROUNDS


async def test_orders_of_two_owners_at_once_make_one(
    client: httpx.AsyncClient, tokens: Tokens, database: Database
) -> None:
    headers = tokens.service_bearer("organizations", "identity")

    async def order(organization_id: int, email: str) -> httpx.Response:
        body = _order(organization_id, email)
        return await client.post("/internal/owners", json=body, headers=headers)

    for organization_id in range(1, 4):
        emails = [f"{name}-{organization_id}@example.org" for name in ("olga", "other")]
        answers = await asyncio.gather(*(order(organization_id, email) for email in emails))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        [refused] = [answer for answer in answers if answer.status_code == 409]
        assert refused.json()["code"] == "owner_exists"
    assert len(await database.rows("SELECT id FROM users")) == 3


async def test_the_first_administrator_is_made_once_by_several_at_once(
    transactions: Transactions, database: Database
) -> None:
    settings = BootstrapSettings.model_validate(
        {
            "database_url": database.url,
            "admin_email": "admin@example.org",
            "admin_password": "a long admin password",
        }
    )
    outcomes = await asyncio.gather(*(bootstrap(transactions, settings) for _ in range(4)))
    assert sorted(outcome.made for outcome in outcomes) == [False, False, False, True]
    assert len(await database.rows("SELECT id FROM users")) == 1
