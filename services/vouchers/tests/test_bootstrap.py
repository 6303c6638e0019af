"""The default organization's voucher types: made once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.vouchers.app import clients_of
from services.vouchers.bootstrap import make_default_types
from services.vouchers.errors import OrganizationNotFound
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import Transports
from services.vouchers.tests.outside import ORGANIZATION, Organizations
from shared.clients import ServiceClients
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


@pytest.fixture
async def clients(settings: Settings, transports: Transports) -> AsyncIterator[ServiceClients]:
    clients = clients_of(settings, transports)
    yield clients
    await clients.aclose()


async def test_the_three_types_are_made_once_whoever_asks(
    settings: Settings,
    transactions: Transactions,
    clients: ServiceClients,
    organizations: Organizations,
    database: Database,
) -> None:
    organizations.known[ORGANIZATION]["slug"] = "default-org"
    by_id = settings.model_copy(update={"default_organization_id": ORGANIZATION})
    made = await asyncio.gather(
        *(make_default_types(settings, transactions, clients) for _ in range(5)),
        make_default_types(by_id, transactions, clients),
    )
    assert sorted(made) == [0, 0, 0, 0, 0, 3]
    rows = await database.rows("SELECT * FROM voucher_types ORDER BY id")
    assert [
        (
            row["name"],
            row["total_sessions"],
            row["backup_sessions"],
            row["session_duration_minutes"],
            row["max_clients_per_session"],
            row["frequency"],
            str(row["price"]),
            row["currency"],
        )
        for row in rows
    ] == [
        ("Standard Individual Therapy", 10, 2, 60, 1, "weekly", "399.99", "PLN"),
        ("Group Therapy Package", 8, 2, 90, 8, "weekly", "199.99", "PLN"),
        ("Intensive Daily Sessions", 20, 4, 45, 1, "daily", "799.99", "PLN"),
    ]
    events = await database.events()
    assert [event["data"]["action"] for event in events] == ["CREATE"] * 3
    assert {event["data"]["actor"]["role"] for event in events} == {"system"}


async def test_without_the_organization_it_says_so(
    settings: Settings, transactions: Transactions, clients: ServiceClients, database: Database
) -> None:
    with pytest.raises(OrganizationNotFound):
        await make_default_types(settings, transactions, clients)
    assert await database.rows("SELECT 1 FROM voucher_types") == []
