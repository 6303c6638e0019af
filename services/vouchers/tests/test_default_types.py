"""The default organization's voucher types: created once, and for no other organization."""

import asyncio
from typing import Any

import pytest

from services.vouchers.app import clients_of
from services.vouchers.handlers import store_organization
from services.vouchers.models import OrganizationCopy
from services.vouchers.service.default_types import (
    DEFAULT_ORGANIZATION_SLUG,
    complete_missed_creation,
    ensure_default_types,
)
from services.vouchers.service.remote_copies import RemoteCopies
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import Transports
from services.vouchers.tests.outside import ORGANIZATION, Organizations
from shared.context import system_origin
from shared.events import Event
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

EXPECTED = [
    ("Standard Individual Therapy", 10, 2, 60, 1, "weekly", "399.99", "PLN"),
    ("Group Therapy Package", 8, 2, 90, 8, "weekly", "199.99", "PLN"),
    ("Intensive Daily Sessions", 20, 4, 45, 1, "daily", "799.99", "PLN"),
]


def created(state: dict[str, Any]) -> Event:
    values = {name: value for name, value in state.items() if name != "version"}
    return Event.model_validate(
        {
            "id": "018f0000-0000-7000-8000-000000000001",
            "source": "carnet/organizations",
            "type": "organizations.organization.created.v1",
            "time": "2026-11-23T10:00:00Z",
            "subject": f"organization/{state['id']}",
            "data": {
                "action": "CREATE",
                "entity_type": "organization",
                "entity_id": state["id"],
                "entity_version": state["version"],
                "organization_id": state["id"],
                "actor": {"role": "system"},
                "correlation_id": "bootstrap",
                "old_values": {},
                "new_values": values,
            },
        }
    )


async def test_the_default_organization_gets_its_types_once(
    transactions: Transactions, organizations: Organizations, database: Database
) -> None:
    event = created(organizations.known[ORGANIZATION] | {"slug": DEFAULT_ORGANIZATION_SLUG})
    for _ in range(2):
        async with transactions.system(causation=event) as session:
            await store_organization(session, event)
    rows = await database.rows("SELECT * FROM voucher_types ORDER BY id")
    terms = (
        "name",
        "total_sessions",
        "backup_sessions",
        "session_duration_minutes",
        "max_clients_per_session",
        "frequency",
        "price",
        "currency",
    )
    assert [tuple(str(row[t]) if t == "price" else row[t] for t in terms) for row in rows] == (
        EXPECTED
    )
    events = await database.events()
    assert [event["data"]["action"] for event in events] == ["CREATE"] * 3
    assert {event["data"]["actor"]["role"] for event in events} == {"system"}


async def test_any_other_organization_starts_without(
    transactions: Transactions, organizations: Organizations, database: Database
) -> None:
    event = created(organizations.known[ORGANIZATION] | {"slug": "another"})
    async with transactions.system(causation=event) as session:
        await store_organization(session, event)
    assert await database.rows("SELECT 1 FROM voucher_types") == []


async def test_five_calls_at_once_create_three_types(
    transactions: Transactions, organizations: Organizations, database: Database
) -> None:
    event = created(organizations.known[ORGANIZATION] | {"slug": "another"})
    async with transactions.system(causation=event) as session:
        await store_organization(session, event)

    async def ensure() -> int:
        async with transactions.system() as session:
            organization = await session.get_one(OrganizationCopy, ORGANIZATION)
            return await ensure_default_types(session, organization)

    assert sorted(await asyncio.gather(*(ensure() for _ in range(5)))) == [0, 0, 0, 0, 3]
    assert len(await database.rows("SELECT 1 FROM voucher_types")) == 3


async def test_a_missed_creation_is_completed_once(
    transactions: Transactions,
    organizations: Organizations,
    settings: Settings,
    transports: Transports,
    database: Database,
) -> None:
    clients = clients_of(settings, transports)
    remote_copies = RemoteCopies(clients, system_origin(), transactions.system)
    await complete_missed_creation(transactions, remote_copies)
    assert await database.rows("SELECT 1 FROM organization_copies") == [], "there is none yet"
    organizations.known[ORGANIZATION]["slug"] = DEFAULT_ORGANIZATION_SLUG
    await complete_missed_creation(transactions, remote_copies)
    assert len(await database.rows("SELECT 1 FROM voucher_types")) == 3
    async with database.admin() as connection:
        await connection.execute("DELETE FROM voucher_types")
    calls = organizations.calls
    await complete_missed_creation(transactions, remote_copies)
    assert await database.rows("SELECT 1 FROM voucher_types") == [], "deleted on purpose"
    assert organizations.calls == calls
    await clients.aclose()
