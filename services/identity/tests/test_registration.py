"""Self-registration, and the owner of an organization that is being founded."""

from typing import Any

import anyio
import httpx
import pytest

from services.identity.app import create_app
from services.identity.settings import Settings
from services.identity.tests.conftest import MINE, Organizations, People, Person, user_id_of
from shared.testing import Database, Tokens, client_of

pytestmark = pytest.mark.anyio

NEW = {"email": "ann@example.org", "name": "Ann", "password": "another good one"}


async def test_a_registration_waits_for_approval(
    client: httpx.AsyncClient, database: Database, organizations: Organizations
) -> None:
    body = {**NEW, "organization_slug": "mine", "phone": "+48 600 100 200"}
    answer = await client.post("/api/auth/register", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["role"], made["organization_id"]) == ("client", MINE)
    assert (made["is_active"], made["id"]) == (False, None)
    [row] = await database.rows("SELECT is_active, approved_at FROM users")
    assert (row["is_active"], row["approved_at"]) == (False, None)
    assert organizations.asked == 1, "the copy was read through"
    credentials = {"email": NEW["email"], "password": NEW["password"]}
    answer = await client.post("/api/auth/login", json=credentials)
    assert (answer.status_code, answer.json()["code"]) == (403, "awaiting_approval")
    event = (await database.events())[0]
    assert event["type"] == "identity.user.created.v1"
    assert event["data"]["actor"]["role"] == "anonymous"
    assert event["data"]["organization_id"] == MINE


async def test_without_a_slug_the_user_belongs_nowhere(
    client: httpx.AsyncClient, organizations: Organizations
) -> None:
    answer = await client.post("/api/auth/register", json=NEW)
    assert (answer.status_code, answer.json()["organization_id"]) == (201, None)
    assert organizations.asked == 0


async def test_who_was_refused_may_register_elsewhere(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    body = {**NEW, "organization_slug": "mine"}
    await client.post("/api/auth/register", json=body)
    user_id = await user_id_of(database, NEW["email"])
    owner = await people.add("organization_owner", MINE)
    path = f"/api/organizations/{MINE}/users/{user_id}"
    assert (await client.delete(path, headers=owner.headers)).status_code == 200
    assert (await client.get(path, headers=owner.headers)).status_code == 404
    again = await client.post("/api/auth/register", json={**NEW, "organization_slug": "other"})
    assert again.status_code == 201
    assert await user_id_of(database, NEW["email"]) != user_id
    told = [event["data"]["action"] for event in await database.events()]
    assert told == ["CREATE", "DELETE", "CREATE"]


@pytest.mark.parametrize(
    "typed",
    ["a\u0308nn@example.org", "ann@xn--bcher-kva.example", "Ann@B\u00dcCHER.example"],
)
async def test_who_registered_signs_in_with_what_they_typed(
    client: httpx.AsyncClient, people: People, database: Database, typed: str
) -> None:
    """A registration keeps one spelling of an address; keyboards and programs send others."""
    admin = await people.add("admin")
    answer = await client.post("/api/auth/register", json={**NEW, "email": typed})
    user_id = await user_id_of(database, answer.json()["email"])
    path = f"/api/admin/users/{user_id}/approve"
    assert (await client.post(path, headers=admin.headers)).status_code == 200
    credentials = {"email": typed, "password": NEW["password"]}
    assert (await client.post("/api/auth/login", json=credentials)).status_code == 200


@pytest.mark.parametrize(
    ("slug", "status"),
    [
        ("nobody", 404),
        ("closed", 404),
        ("../admin", 404),
        ("", 422),
        ("a\x00b", 422),
        ("x" * 256, 422),
    ],
)
async def test_only_open_organizations_take_clients(
    client: httpx.AsyncClient,
    organizations: Organizations,
    database: Database,
    slug: str,
    status: int,
) -> None:
    organizations.add(9, "closed", is_active=False)
    body = {**NEW, "organization_slug": slug}
    answer = await client.post("/api/auth/register", json=body)
    assert answer.status_code == status
    assert await database.rows("SELECT * FROM users") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "admin"),
        ("organization_id", MINE),
        ("organization_name", "Mine"),
        ("is_active", True),
        ("is_organization_owner", True),
        ("approved_at", "2026-01-01T00:00:00Z"),
        ("approved_by", 1),
        ("permissions", ["all"]),
        ("id", 1),
    ],
)
async def test_no_user_registers_with_another_role(
    client: httpx.AsyncClient, field: str, value: object
) -> None:
    answer = await client.post("/api/auth/register", json={**NEW, field: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_registrations_of_one_address_at_once_make_one_user(
    client: httpx.AsyncClient, database: Database
) -> None:
    statuses: list[int] = []

    async def one(email: str) -> None:
        answer = await client.post("/api/auth/register", json={**NEW, "email": email})
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for email in ("ann@example.org", "ANN@example.org", "Ann@Example.org"):
            group.start_soon(one, email)
    assert statuses == [201, 201, 201]
    assert len(await database.rows("SELECT * FROM users")) == 1
    actions = [event["data"]["action"] for event in await database.events()]
    assert actions == ["CREATE", "REQUEST_PASSWORD_RESET", "REQUEST_PASSWORD_RESET"]


async def test_one_key_registers_once(client: httpx.AsyncClient, database: Database) -> None:
    headers = {"Idempotency-Key": "register-once", "Authorization": "Bearer stale"}
    first = await client.post("/api/auth/register", json=NEW, headers=headers)
    second = await client.post("/api/auth/register", json=NEW, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len(await database.rows("SELECT * FROM users")) == 1


async def test_registration_can_be_closed_and_is_bounded(
    settings: Settings, database: Database
) -> None:
    closed = settings.model_copy(update={"self_registration": False})
    async with client_of(create_app(closed)) as client:
        answer = await client.post("/api/auth/register", json=NEW)
        assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")
    bounded = settings.model_copy(update={"registrations_per_address": 1})
    async with client_of(create_app(bounded)) as client:
        assert (await client.post("/api/auth/register", json=NEW)).status_code == 201
        body = {**NEW, "email": "bob@example.org"}
        answer = await client.post("/api/auth/register", json=body)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 3000
        elsewhere = {"X-Client-Address": "203.0.113.9"}
        answer = await client.post("/api/auth/register", json=body, headers=elsewhere)
        assert answer.status_code == 201


def _order(**changes: Any) -> dict[str, Any]:
    organization = {
        "id": 50,
        "version": 1,
        "name": "Praxis",
        "slug": "praxis",
        "address": None,
        "timezone": "UTC",
        "currency": "USD",
        "is_active": True,
    }
    return {**NEW, "phone": None, "organization": organization, **changes}


async def test_an_owner_is_made_once(
    client: httpx.AsyncClient, tokens: Tokens, database: Database, organizations: Organizations
) -> None:
    headers = tokens.service_bearer("organizations", "identity")
    path = "/internal/owners"
    answers = [
        await client.post(path, json=_order(email=email), headers=headers)
        for email in ("ann@example.org", "Ann@example.org")
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    made = answers[0].json()
    assert (made["role"], made["organization_id"]) == ("organization_owner", 50)
    assert made["is_active"]
    assert len(await database.events()) == 1
    answer = await client.post(path, json=_order(email="bob@example.org"), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "owner_exists")
    other = _order()
    other["organization"]["id"] = 51
    other["organization"]["slug"] = "other-praxis"
    answer = await client.post(path, json=other, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
    answer = await client.post(path, json=_order(password="short"), headers=headers)
    assert answer.json()["errors"][0]["field"] == "password"
    found = await client.get(f"{path}/50", headers=headers)
    assert found.json() == made
    assert (await client.get(f"{path}/51", headers=headers)).status_code == 404
    credentials = {"email": NEW["email"], "password": NEW["password"]}
    assert (await client.post("/api/auth/login", json=credentials)).status_code == 200
    assert organizations.asked == 0, "the order brought the copy"


async def test_orders_sent_at_once_make_one_owner(
    client: httpx.AsyncClient, tokens: Tokens, database: Database
) -> None:
    headers = tokens.service_bearer("organizations", "identity")
    answers: list[dict[str, Any]] = []

    async def one() -> None:
        answer = await client.post("/internal/owners", json=_order(), headers=headers)
        assert answer.status_code == 201
        answers.append(answer.json())

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    assert len({answer["id"] for answer in answers}) == 1
    assert len(await database.events()) == 1


async def test_internal_routes_are_for_services(
    client: httpx.AsyncClient, tokens: Tokens, admin: Person, people: People
) -> None:
    person = await people.add("client", MINE)
    for path in ("/internal/owners/1", f"/internal/users/{person.id}", "/internal/revocations"):
        for headers in ({}, admin.headers, tokens.service_bearer("vouchers", "payments")):
            assert (await client.get(path, headers=headers)).status_code == 401
    vouchers = tokens.service_bearer("vouchers", "identity")
    answer = await client.post("/internal/owners", json=_order(), headers=vouchers)
    assert answer.status_code == 403
    answer = await client.get(f"/internal/users/{person.id}", headers=vouchers)
    assert answer.json() == {
        "id": person.id,
        "version": 1,
        "name": "Client 2",
        "email": person.email,
        "role": "client",
        "organization_id": MINE,
        "is_active": True,
        "guardian_id": None,
        "locale": None,
    }
    assert (await client.get(f"/internal/users/{2**40}", headers=vouchers)).status_code == 404
