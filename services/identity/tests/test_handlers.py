"""Events of organizations: each delivered twice, in any order, with one outcome."""

import itertools
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from services.identity.handlers import ORGANIZATIONS, QUEUES
from services.identity.tests.conftest import People, Person
from shared import inbox
from shared.consumer import one_by_one
from shared.events import Event, EventActor, EventData
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


def _event(what: str, version: int, **new: Any) -> Event:
    return Event.model_validate(
        {
            "id": f"{what}-{version}",
            "source": "carnet/organizations",
            "type": f"organizations.organization.{what}.v1",
            "time": "2026-11-23T12:00:00Z",
            "subject": "organization/50",
            "data": EventData(
                action="UPDATE",
                entity_type="organization",
                entity_id=50,
                entity_version=version,
                organization_id=50,
                actor=EventActor(),
                correlation_id="test-correlation",
                old_values={},
                new_values=new,
            ),
        }
    )


CREATED = _event("created", 1, name="Praxis", slug="praxis", is_active=True, currency="USD")
RENAMED = _event("updated", 2, name="Praxis Nova")
CLOSED = _event("deactivated", 3, is_active=False)
REOPENED = _event("updated", 4, is_active=True)


async def deliver(transactions: Transactions, events: Sequence[Event]) -> None:
    [(queue, handlers)] = QUEUES.items()
    for event in events:
        async with transactions.system(causation=event) as session:
            new = await inbox.take(session, queue.name, [event])
            await one_by_one(handlers)(session, new)


@pytest.mark.parametrize("order", list(itertools.permutations((CREATED, RENAMED, CLOSED))))
async def test_any_order_twice_comes_to_the_same(
    transactions: Transactions, database: Database, order: tuple[Event, ...]
) -> None:
    await deliver(transactions, [event for event in order for _ in range(2)])
    [copy] = await database.rows("SELECT * FROM organization_copies")
    assert (copy["id"], copy["slug"], copy["is_active"]) == (50, "praxis", False)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_a_letterhead_is_the_newest_and_can_lose_its_logo(
    transactions: Transactions, database: Database, order: tuple[int, ...]
) -> None:
    logo = "https://praxis.example/logo.png"
    letterhead = {"logo_url": logo, "email": None, "timezone": "Europe/Warsaw", "locale": None}
    events = (
        _event("created", 1, name="Praxis", slug="praxis", is_active=True, **letterhead),
        _event("updated", 2, email="hello@praxis.example", locale="de-AT"),
        _event("updated", 3, name="Praxis Nova", logo_url=None),
    )
    await deliver(transactions, [events[number] for number in order])
    [copy] = await database.rows("SELECT * FROM organization_copies")
    assert {name: copy[name] for name in ("name", *letterhead)} == {
        "name": "Praxis Nova",
        "logo_url": None,
        "email": "hello@praxis.example",
        "timezone": "Europe/Warsaw",
        "locale": "de-AT",
    }


async def test_the_newest_word_counts_also_past_the_inbox(
    transactions: Transactions, database: Database
) -> None:
    for event in (REOPENED, CLOSED, CREATED, CLOSED):
        async with transactions.system(causation=event) as session:
            await ORGANIZATIONS[event.type](session, event)
    [copy] = await database.rows("SELECT * FROM organization_copies")
    assert (copy["slug"], copy["is_active"]) == ("praxis", True)


async def test_half_a_copy_is_none(
    client: httpx.AsyncClient, transactions: Transactions, admin: Person
) -> None:
    await deliver(transactions, [CLOSED])
    answer = await client.get("/api/organizations/50/users", headers=admin.headers)
    assert answer.status_code == 404


async def test_a_requested_organization_gets_its_owner(
    client: httpx.AsyncClient, transactions: Transactions, admin: Person, database: Database
) -> None:
    body = {
        "email": "ann@example.org",
        "name": "Ann",
        "password": "another good one",
        "role": "organization_owner",
        "organization_name": "Praxis",
    }
    answer = await client.post("/api/admin/users", json=body, headers=admin.headers)
    made = answer.json()
    assert (made["requested_organization"], made["organization_id"]) == ("Praxis", None)
    requested = (await database.events())[1]
    assert requested["type"] == "identity.organization.requested.v1"
    assert requested["data"]["entity_id"] == made["id"]
    assert requested["data"]["new_values"]["organization_name"] == "Praxis"
    founded = _event("created", 1, slug="praxis", is_active=True, owner_id=made["id"])
    await deliver(transactions, [founded, founded])
    answer = await client.get(f"/api/admin/users/{made['id']}", headers=admin.headers)
    owner = answer.json()
    assert (owner["organization_id"], owner["requested_organization"]) == (50, None)
    assert owner["role"] == "organization_owner"
    events = await database.events()
    assert len(events) == 3
    assert events[2]["data"]["causation_id"] == founded.id
    assert events[2]["data"]["actor"]["role"] == "system"
    signed_in = await client.post(
        "/api/auth/login", json={"email": body["email"], "password": body["password"]}
    )
    assert signed_in.status_code == 200


async def test_a_user_who_did_not_request_it_does_not_become_owner(
    transactions: Transactions, people: People, database: Database
) -> None:
    person = await people.add("client")
    founded = _event("created", 1, slug="praxis", is_active=True, owner_id=person.id)
    await deliver(transactions, [founded])
    [row] = await database.rows("SELECT * FROM users")
    assert (row["organization_id"], row["role"]) == (None, "client")
