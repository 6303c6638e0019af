"""The default organization exists after the first start, and only once."""

import asyncio

import pytest

from services.organizations.service.default_organization import (
    DEFAULT_NAME,
    ensure_default_organization,
)
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def test_starts_at_once_make_one_default_organization(
    transactions: Transactions, database: Database
) -> None:
    ids = await asyncio.gather(*(ensure_default_organization(transactions) for _ in range(5)))
    [organization] = await database.rows("SELECT id, name FROM organizations")
    assert set(ids) == {organization["id"]}
    assert organization["name"] == DEFAULT_NAME
    [event] = await database.events()
    assert event["data"]["actor"]["role"] == "system"
