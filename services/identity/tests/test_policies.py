"""An actor who manages users manages only those with no more rights."""

import itertools
from typing import Any

import httpx
import pytest

from services.identity import policies
from services.identity.models import PERMISSIONS, ROLES
from services.identity.tests.conftest import MINE, People, Person
from services.identity.tests.test_user_creation import NEW
from shared.actors import Actor
from shared.testing import Database

pytestmark = pytest.mark.anyio

USERS = f"/api/organizations/{MINE}/users"

# What the manager holds besides manage_users, whom it is about, and whether it is allowed.
CASES = [
    ((), "client", (), True),
    ((), "staff", (), True),
    ((), "staff", ("manage_users",), True),
    ((), "staff", ("all",), False),
    ((), "staff", ("view_audit_logs",), False),
    ((), "therapist", (), False),
    (("manage_vouchers",), "therapist", (), True),
    (("manage_vouchers",), "therapist", ("view_payments",), False),
    (("manage_payments",), "staff", ("view_payments",), True),
    (("view_payments",), "staff", ("manage_payments",), False),
    (("all",), "therapist", ("all", "manage_payments"), True),
    (("all",), "organization_owner", (), False),
    (("all",), "admin", (), False),
    (tuple(name for name in PERMISSIONS if name != "all"), "staff", ("all",), False),
]


async def _manager(people: People, role: str, held: tuple[str, ...]) -> Person:
    permissions = dict.fromkeys(("manage_users", *held))
    return await people.add(role, MINE, tuple(permissions))


@pytest.mark.parametrize(("held", "role", "permissions", "allowed"), CASES)
async def test_every_change_needs_what_the_other_holds(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    held: tuple[str, ...],
    role: str,
    permissions: tuple[str, ...],
    allowed: bool,
) -> None:
    await people.copy_organizations(MINE)
    await people.add("organization_owner", MINE)
    await people.add("admin")
    manager = await _manager(people, "staff", held)
    changes: list[tuple[str, str, dict[str, Any] | None, dict[str, Any]]] = [
        ("PUT", "", {"name": "Renamed"}, {}),
        ("PUT", "", {"email": "elsewhere@example.org"}, {}),
        ("PUT", "", {"is_active": False}, {}),
        ("PUT", "", {"is_active": True}, {"is_active": False}),
        ("PUT", "", {"role": "client"}, {}),
        ("POST", "/approve", None, {"approved": False, "is_active": False}),
        ("DELETE", "", None, {}),
        ("DELETE", "", None, {"approved": False, "is_active": False}),
    ]
    for method, path, body, state in changes:
        other = await people.add(role, MINE, permissions, **state)
        before = await database.rows("SELECT * FROM users WHERE id = $1", other.id)
        answer = await client.request(
            method, f"{USERS}/{other.id}{path}", json=body, headers=manager.headers
        )
        assert answer.status_code == (200 if allowed else 403), (method, body, answer.text)
        if not allowed:
            assert answer.json()["detail"].startswith("Not authorized. ")
            assert await database.rows("SELECT * FROM users WHERE id = $1", other.id) == before


@pytest.mark.parametrize(
    ("manager_role", "held", "role", "allowed"),
    [
        ("staff", (), "therapist", False),
        ("staff", ("manage_vouchers",), "therapist", True),
        ("staff", ("all",), "therapist", True),
        ("therapist", (), "therapist", True),
        ("staff", (), "staff", True),
        ("staff", (), "client", True),
        ("staff", ("all",), "organization_owner", False),
        ("staff", ("all",), "admin", False),
    ],
)
async def test_no_actor_gives_a_role_that_brings_more(
    client: httpx.AsyncClient,
    people: People,
    manager_role: str,
    held: tuple[str, ...],
    role: str,
    allowed: bool,
) -> None:
    await people.copy_organizations(MINE)
    manager = await _manager(people, manager_role, held)
    answer = await client.post(USERS, json={**NEW, "role": role}, headers=manager.headers)
    assert answer.status_code == (201 if allowed else 403)
    member = await people.add("client", MINE)
    answer = await client.put(f"{USERS}/{member.id}", json={"role": role}, headers=manager.headers)
    assert answer.status_code == (200 if allowed else 403)


async def test_a_manager_changes_their_own_name_whatever_the_token_holds(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    manager = await _manager(people, "therapist", ())
    async with database.admin() as admin:
        await admin.execute(
            "INSERT INTO permissions (user_id, organization_id, permission, granted_at,"
            " created_at, updated_at, version) VALUES ($1, $2, 'all', now(), now(), now(), 1)",
            manager.id,
            MINE,
        )
    answer = await client.put(
        f"{USERS}/{manager.id}", json={"name": "Renamed"}, headers=manager.headers
    )
    assert answer.status_code == 200


def test_owners_and_administrators_hold_what_anybody_can() -> None:
    owner = Actor(user_id=1, role="organization_owner", organization_id=MINE)
    admin = Actor(user_id=2, role="admin")
    for role, permission in itertools.product(ROLES, PERMISSIONS):
        other = policies.rights(role, (permission,))
        assert other <= policies.rights_of(admin, MINE)
        assert (other <= policies.rights_of(owner, MINE)) == (role != "admin")
    assert policies.rights_of(owner, MINE + 1) == frozenset()
