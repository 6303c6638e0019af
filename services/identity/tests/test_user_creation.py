"""Adding users, and fields that are refused."""

import hashlib
from typing import Any

import httpx
import pytest

from services.identity.tests.conftest import MINE, OTHER, People, Person
from shared.testing import Database

pytestmark = pytest.mark.anyio

NEW = {"email": "New@Example.org", "name": "New", "password": "another good one", "role": "staff"}


async def row_of(database: Database, user_id: int) -> dict[str, Any]:
    [row] = await database.rows("SELECT * FROM users WHERE id = $1", user_id)
    return row


async def test_an_administrator_adds_a_user_who_is_in_at_once(
    client: httpx.AsyncClient, admin: Person, database: Database
) -> None:
    body = {**NEW, "organization_id": MINE, "phone": "+48 600 100 200"}
    answer = await client.post("/api/admin/users", json=body, headers=admin.headers)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["role"], made["organization_id"], made["is_active"]) == ("staff", MINE, True)
    assert made["approved_by"] == admin.id
    assert "password" not in str(made)
    [event] = await database.events()
    assert event["type"] == "identity.user.created.v1"
    assert event["data"]["actor"]["user_id"] == admin.id
    assert event["data"]["new_values"]["email"] == "New@example.org"
    assert "argon2" not in str(event)
    credentials = {"email": "new@example.org", "password": "another good one"}
    assert (await client.post("/api/auth/login", json=credentials)).status_code == 200


async def test_one_key_makes_one_user(
    client: httpx.AsyncClient, admin: Person, database: Database
) -> None:
    headers = {**admin.headers, "Idempotency-Key": "make-it-once"}
    answers = [await client.post("/api/admin/users", json=NEW, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(await database.rows("SELECT * FROM users")) == 2
    [kept] = await database.rows("SELECT * FROM idempotency_keys")
    assert "another good one" not in str(kept)
    guessed = hashlib.sha256(b"\n" + answers[0].request.content).hexdigest()
    assert kept["fingerprint"] != guessed, "a password in a body must not be guessable"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "password12"}, "password"),
        ({"password": "PASSWORD12"}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"email": "nobody"}, "email"),
        ({"email": "a\x00b@example.org"}, "email"),
        ({"name": "a\x00b"}, "name"),
        ({"role": "god"}, "role"),
        ({"is_organization_owner": True}, "is_organization_owner"),
        ({"approved_at": "2026-01-01T00:00:00Z"}, "approved_at"),
        ({"id": 1}, "id"),
        ({"organization_id": 2**63}, "organization_id"),
    ],
)
async def test_bad_fields_are_named(
    client: httpx.AsyncClient, admin: Person, changes: dict[str, Any], field: str
) -> None:
    answer = await client.post("/api/admin/users", json={**NEW, **changes}, headers=admin.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "organization_owner"},
        {"organization_name": "Praxis", "role": "staff"},
        {"organization_name": "Praxis", "organization_id": MINE, "role": "organization_owner"},
    ],
)
async def test_an_owner_needs_one_organization(
    client: httpx.AsyncClient, admin: Person, changes: dict[str, Any]
) -> None:
    answer = await client.post("/api/admin/users", json={**NEW, **changes}, headers=admin.headers)
    assert answer.status_code == 422


async def test_an_address_is_taken_whatever_its_case(
    client: httpx.AsyncClient, admin: Person, owner: Person
) -> None:
    body = {**NEW, "email": owner.email.upper()}
    answer = await client.post("/api/admin/users", json=body, headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
    other = (await client.post("/api/admin/users", json=NEW, headers=admin.headers)).json()
    answer = await client.put(
        f"/api/admin/users/{other['id']}", json={"email": owner.email}, headers=admin.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("organization_id", OTHER),
        ("organization_name", "Mine now"),
        ("is_organization_owner", True),
        ("approved_at", "2026-01-01T00:00:00Z"),
        ("approved_by", 1),
        ("is_active", False),
        ("password_hash", "x"),
        ("id", 1),
        ("version", 1),
        ("permissions", ["all"]),
    ],
)
async def test_an_owner_cannot_smuggle_fields_into_a_new_user(
    client: httpx.AsyncClient, owner: Person, database: Database, field: str, value: object
) -> None:
    answer = await client.post(
        f"/api/organizations/{MINE}/users", json={**NEW, field: value}, headers=owner.headers
    )
    assert answer.status_code == 422
    assert len(await database.rows("SELECT * FROM users")) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("organization_id", OTHER),
        ("is_organization_owner", True),
        ("approved_at", None),
        ("approved_by", 1),
        ("password", "another good one"),
        ("last_login", None),
        ("permissions", ["all"]),
        ("requested_organization", "x"),
        ("name", None),
        ("role", None),
        ("is_active", None),
    ],
)
async def test_no_extra_field_gets_into_a_change(
    client: httpx.AsyncClient,
    people: People,
    owner: Person,
    database: Database,
    field: str,
    value: object,
) -> None:
    member = await people.add("staff", MINE)
    before = await row_of(database, member.id)
    paths = [f"/api/organizations/{MINE}/users/{member.id}", "/api/auth/me"]
    for path in paths:
        answer = await client.put(path, json={field: value}, headers=owner.headers)
        assert answer.status_code == 422, path
    assert await row_of(database, member.id) == before
