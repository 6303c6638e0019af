"""Messages, each delivered twice."""

import asyncio

import pytest
from uuid_utils import uuid7

from services.organizations.handlers import QUEUES, REQUESTS
from services.organizations.service import founding as foundings
from shared import inbox
from shared.consumer import one_by_one
from shared.context import system_origin
from shared.db import now
from shared.events import Event, EventActor, EventData
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


def requested(owner_id: int, name: str) -> Event:
    """Return identity's event of a user who is to own a new organization."""
    return Event(
        id=str(uuid7()),
        source="carnet/identity",
        type="identity.organization.requested.v1",
        time=now(),
        subject=f"user/{owner_id}",
        data=EventData(
            action="REQUEST_ORGANIZATION",
            entity_type="user",
            entity_id=owner_id,
            entity_version=1,
            organization_id=None,
            actor=EventActor(user_id=1, role="admin"),
            correlation_id="request-1",
            old_values={},
            new_values={"organization_name": name},
        ),
    )


async def deliver(transactions: Transactions, *events: Event) -> None:
    """Deliver each event twice, as a consumer does: in one transaction with its inbox row."""
    for event in [*events, *events]:
        async with transactions.system(causation=event) as session:
            new = await inbox.take(session, REQUESTS.name, [event])
            await one_by_one(QUEUES[REQUESTS])(session, new)


async def test_a_requested_organization_is_made_once_and_names_its_owner(
    transactions: Transactions, database: Database
) -> None:
    wish = requested(31, "Praxis am Park")
    await deliver(transactions, wish)
    [row] = await database.rows("SELECT * FROM organizations")
    assert (row["name"], row["slug"], row["currency"]) == (
        "Praxis am Park",
        "praxis-am-park",
        "USD",
    )
    [event] = await database.events()
    assert event["type"] == "organizations.organization.created.v1"
    assert event["data"]["entity_id"] == row["id"]
    assert event["data"]["new_values"]["owner_id"] == 31
    assert event["data"]["causation_id"] == wish.id
    assert event["data"]["actor"]["role"] == "system"


async def test_two_requests_of_one_name_make_two_organizations(
    transactions: Transactions, database: Database
) -> None:
    await deliver(transactions, requested(31, "Praxis"), requested(32, "Praxis"))
    rows = await database.rows("SELECT slug FROM organizations ORDER BY id")
    assert [row["slug"] for row in rows] == ["praxis", "praxis-2"]


async def _waits(database: Database, task: asyncio.Future[None]) -> None:
    """Return once a task is done or waits for a lock."""
    waiting = """
        SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
    """
    async with asyncio.timeout(30):
        while not task.done() and not await database.rows(waiting):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("founded", "requested_name"), [("Foo", "Foo 2"), ("Foo 2", "Foo 2 2")])
async def test_a_name_that_ends_in_a_number_gets_no_slug_that_is_just_being_promised(
    transactions: Transactions, database: Database, founded: str, requested_name: str
) -> None:
    await deliver(transactions, requested(31, founded))
    async with transactions.system() as session:
        founding = await foundings.begin_founding(session, system_origin(), {"name": founded})
        wish = requested(32, requested_name)
        meanwhile = asyncio.ensure_future(deliver(transactions, wish))
        await _waits(database, meanwhile)
    await meanwhile
    async with transactions.system() as session:
        await foundings.complete_founding(session, founding.organization_id)
    rows = await database.rows("SELECT slug FROM organizations")
    assert len({row["slug"] for row in rows}) == 3


async def test_a_request_that_names_no_owner_is_refused(transactions: Transactions) -> None:
    wish = requested(31, "Praxis")
    nobody = wish.model_copy(update={"data": wish.data.model_copy(update={"entity_id": None})})
    with pytest.raises(ValueError, match="names no owner"):
        await deliver(transactions, nobody)
