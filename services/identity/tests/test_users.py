"""Managing users: approving, changing, removing, deleting."""

from typing import Any

import anyio
import httpx
import pytest

from services.identity.tests.conftest import (
    HASHED,
    MINE,
    OTHER,
    PASSWORD,
    Organizations,
    People,
    Person,
)
from services.identity.tests.test_user_creation import NEW, row_of
from shared.testing import Database

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("role", "status"), [("admin", 403), ("organization_owner", 403)])
async def test_a_manager_gives_no_role_above_the_own(
    client: httpx.AsyncClient, people: People, role: str, status: int
) -> None:
    await people.copy_organizations(MINE)
    manager = await people.add("staff", MINE, ("manage_users",))
    member = await people.add("staff", MINE)
    path = f"/api/organizations/{MINE}/users"
    answer = await client.post(path, json={**NEW, "role": role}, headers=manager.headers)
    assert answer.status_code == status
    answer = await client.put(f"{path}/{member.id}", json={"role": role}, headers=manager.headers)
    assert answer.status_code == status


async def test_an_owner_makes_owners_but_no_administrator(
    client: httpx.AsyncClient, people: People, owner: Person
) -> None:
    await people.copy_organizations(MINE)
    path = f"/api/organizations/{MINE}/users"
    for role, expected in (("organization_owner", 201), ("admin", 403)):
        body = {**NEW, "email": f"{role}@example.org", "role": role}
        answer = await client.post(path, json=body, headers=owner.headers)
        assert answer.status_code == expected
    member = await people.add("staff", MINE)
    answer = await client.put(f"{path}/{member.id}", json={"role": "admin"}, headers=owner.headers)
    assert answer.status_code == 403


async def test_no_actor_changes_a_user_with_more_rights(
    client: httpx.AsyncClient, people: People
) -> None:
    manager = await people.add("staff", MINE, ("manage_users",))
    owner = await people.add("organization_owner", MINE)
    system = await people.add("admin", MINE)
    for actor, target in ((manager, owner), (manager, system), (owner, system)):
        path = f"/api/organizations/{MINE}/users/{target.id}"
        for method, body in (("PUT", {"is_active": False}), ("DELETE", None)):
            answer = await client.request(method, path, json=body, headers=actor.headers)
            assert answer.status_code == 403


async def test_approval_lets_in_once(
    client: httpx.AsyncClient, people: People, owner: Person, database: Database
) -> None:
    await people.copy_organizations(MINE)
    waiting = await people.add("client", MINE, approved=False, is_active=False)
    path = f"/api/organizations/{MINE}/users"
    listed = await client.get(path, params={"pending": True}, headers=owner.headers)
    assert [user["id"] for user in listed.json()] == [waiting.id]
    answer = await client.put(
        f"{path}/{waiting.id}", json={"is_active": True}, headers=owner.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "not_yet_approved")
    approve = f"{path}/{waiting.id}/approve"
    answer = await client.post(approve, headers=owner.headers)
    assert answer.status_code == 200
    assert (answer.json()["is_active"], answer.json()["approved_by"]) == (True, owner.id)
    answer = await client.post(approve, headers=owner.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "already_approved")
    [event] = await database.events()
    assert event["type"] == "identity.user.approved.v1"
    assert set(event["data"]["new_values"]) == {"approved_at", "approved_by", "is_active"}
    assert (await client.post("/api/auth/login", json=waiting.credentials)).status_code == 200


async def test_two_approvals_at_once_are_one(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    waiting = await people.add("client", MINE, approved=False, is_active=False)
    statuses: list[int] = []

    async def one() -> None:
        path = f"/api/admin/users/{waiting.id}/approve"
        statuses.append((await client.post(path, headers=admin.headers)).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert sorted(statuses) == [200, 409, 409, 409, 409]
    assert len(await database.events()) == 1


async def test_deactivation_ends_sessions_and_tokens(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    await people.copy_organizations(MINE)
    member = await people.add("staff", MINE)
    signed_in = (await client.post("/api/auth/login", json=member.credentials)).json()
    answer = await client.put(
        f"/api/admin/users/{member.id}", json={"is_active": False}, headers=admin.headers
    )
    assert answer.status_code == 200
    body = {"refresh_token": signed_in["refresh_token"]}
    assert (await client.post("/api/auth/refresh", json=body)).status_code == 401
    event = (await database.events())[-1]
    assert event["data"]["old_values"] == {"is_active": True}
    new = event["data"]["new_values"]
    assert new["is_active"] is False
    row = await row_of(database, member.id)
    assert new["tokens_not_before"] == round(row["tokens_not_before"].timestamp(), 3)
    assert new["user_id"] == member.id


async def test_a_new_name_ends_no_token(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    member = await people.add("staff", MINE)
    path = f"/api/admin/users/{member.id}"
    await client.put(path, json={"name": "Other", "role": "staff"}, headers=admin.headers)
    [event] = await database.events()
    assert event["data"]["new_values"] == {"name": "Other"}
    await client.put(path, json={"name": "Other"}, headers=admin.headers)
    assert len(await database.events()) == 1, "nothing changed, nothing is recorded"


async def test_a_stale_etag_is_refused(
    client: httpx.AsyncClient, people: People, admin: Person
) -> None:
    member = await people.add("staff", MINE)
    path = f"/api/admin/users/{member.id}"
    etag = (await client.get(path, headers=admin.headers)).headers["etag"]
    headers = {**admin.headers, "If-Match": etag}
    assert (await client.put(path, json={"name": "A"}, headers=headers)).status_code == 200
    assert (await client.put(path, json={"name": "B"}, headers=headers)).status_code == 412


async def test_the_last_owner_stays(
    client: httpx.AsyncClient, people: People, admin: Person, owner: Person
) -> None:
    await people.add("organization_owner", MINE, is_active=False)
    await people.add("organization_owner", OTHER)
    path = f"/api/admin/users/{owner.id}"
    changes: list[dict[str, Any]] = [
        {"is_active": False},
        {"role": "staff"},
        {"organization_id": None},
        {"organization_id": OTHER},
    ]
    for change in changes:
        answer = await client.put(path, json=change, headers=admin.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner"), change
    for method, target in (
        ("DELETE", path),
        ("DELETE", f"/api/organizations/{MINE}/users/{owner.id}"),
    ):
        answer = await client.request(method, target, headers=admin.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    await people.add("organization_owner", MINE)
    assert (await client.delete(path, headers=admin.headers)).status_code == 200


async def test_two_owners_who_remove_each_other_leave_one(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    one = await people.add("organization_owner", MINE)
    two = await people.add("organization_owner", MINE)
    statuses: list[int] = []

    async def remove(actor: Person, target: Person) -> None:
        path = f"/api/organizations/{MINE}/users/{target.id}"
        statuses.append((await client.delete(path, headers=actor.headers)).status_code)

    async with anyio.create_task_group() as group:
        group.start_soon(remove, one, two)
        group.start_soon(remove, two, one)
    assert sorted(statuses) == [200, 409]
    owners = "SELECT * FROM users WHERE role = 'organization_owner' AND organization_id = $1"
    assert len(await database.rows(owners, MINE)) == 1


async def test_no_user_removes_the_own_account(
    client: httpx.AsyncClient, people: People, owner: Person, admin: Person
) -> None:
    await people.add("organization_owner", MINE)
    await people.add("admin")
    mine = f"/api/organizations/{MINE}/users/{owner.id}"
    own = f"/api/admin/users/{admin.id}"
    for person, method, path, body in (
        (owner, "DELETE", mine, None),
        (owner, "PUT", mine, {"role": "staff"}),
        (owner, "PUT", mine, {"is_active": False}),
        (admin, "DELETE", own, None),
        (admin, "PUT", own, {"role": "client"}),
        (admin, "PUT", own, {"is_active": False}),
    ):
        answer = await client.request(method, path, json=body, headers=person.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "own_account")


async def test_removal_revokes_permissions_and_reaches_the_organizations_trail(
    client: httpx.AsyncClient, people: People, owner: Person, database: Database
) -> None:
    member = await people.add("therapist", MINE, ("view_payments", "manage_users"))
    path = f"/api/organizations/{MINE}/users/{member.id}"
    answer = await client.delete(path, headers=owner.headers)
    assert answer.json() == {"message": "User removed from organization successfully"}
    row = await row_of(database, member.id)
    assert (row["organization_id"], row["role"], row["is_active"]) == (None, "client", True)
    assert await database.rows("SELECT * FROM permissions") == []
    events = await database.events()
    assert [event["data"]["action"] for event in events] == ["REVOKE", "REVOKE", "UPDATE"]
    assert {event["data"]["organization_id"] for event in events} == {MINE}
    assert events[0]["data"]["old_values"]["permission"] == "manage_users"
    assert events[2]["data"]["old_values"] == {"organization_id": MINE, "role": "therapist"}
    assert (await client.delete(path, headers=owner.headers)).status_code == 404


async def test_a_move_is_published_to_both_organizations(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    await people.add("organization_owner", MINE)
    moved = await people.add("organization_owner", MINE)
    answer = await client.put(
        f"/api/admin/users/{moved.id}", json={"organization_id": OTHER}, headers=admin.headers
    )
    assert answer.status_code == 200
    assert answer.json()["role"] == "client", "nobody stays owner by moving"
    events = await database.events()
    assert [event["data"]["organization_id"] for event in events] == [OTHER, MINE]


@pytest.mark.parametrize(
    "value", ["true", "1.0", "1e0", '"1"', '"1_0"', '"１０"', '" 04 "', "[1]", '{"id":1}']
)
async def test_a_value_that_is_no_id_moves_no_user(
    client: httpx.AsyncClient, admin: Person, people: People, database: Database, value: str
) -> None:
    moved = await people.add("therapist", MINE)
    headers = {**admin.headers, "Content-Type": "application/json"}
    content = f'{{"organization_id": {value}}}'
    answer = await client.put(f"/api/admin/users/{moved.id}", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "organization_id"
    [row] = await database.rows("SELECT * FROM users WHERE id = $1", moved.id)
    assert row["organization_id"] == MINE


@pytest.mark.parametrize(
    "query",
    [
        *("limit=1_0", "limit=%EF%BC%91%EF%BC%90", "limit=%204%20", "limit=04", "limit=+4"),
        *("is_active=yes", "is_active=1", "pending=on", "pending=True", "organization_id=01"),
    ],
)
async def test_a_query_is_not_read_loosely(
    client: httpx.AsyncClient, admin: Person, query: str
) -> None:
    answer = await client.get(f"/api/admin/users?{query}", headers=admin.headers)
    assert answer.status_code == 422, answer.text
    good = await client.get("/api/admin/users?limit=10&is_active=true", headers=admin.headers)
    assert good.status_code == 200


async def test_a_role_that_holds_no_permissions_loses_them(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    member = await people.add("staff", MINE, ("all",))
    path = f"/api/admin/users/{member.id}"
    await client.put(path, json={"role": "therapist"}, headers=admin.headers)
    assert len(await database.rows("SELECT * FROM permissions")) == 1
    await client.put(path, json={"role": "client"}, headers=admin.headers)
    assert await database.rows("SELECT * FROM permissions") == []


async def test_deletion_leaves_a_pseudonym_and_frees_the_address(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    await people.copy_organizations(MINE)
    person = await people.add("staff", MINE, ("all",), phone="+48 600 100 200")
    signed_in = (await client.post("/api/auth/login", json=person.credentials)).json()
    path = f"/api/admin/users/{person.id}"
    answer = await client.delete(path, headers=admin.headers)
    assert answer.json() == {"message": "User deleted successfully"}
    row = await row_of(database, person.id)
    assert row["name"] == f"Deleted user {person.id}"
    assert (row["phone"], row["is_active"], row["password_hash"]) == (None, False, "!")
    assert row["email"] != person.email
    event = next(e for e in await database.events() if e["data"]["action"] == "DELETE")
    assert event["data"]["old_values"]["email"] == person.email
    assert event["data"]["new_values"]["name"] == row["name"]
    assert HASHED not in str(event)
    for method in ("GET", "DELETE"):
        assert (await client.request(method, path, headers=admin.headers)).status_code == 404
    assert (await client.post("/api/auth/login", json=person.credentials)).status_code == 401
    body = {"refresh_token": signed_in["refresh_token"]}
    assert (await client.post("/api/auth/refresh", json=body)).status_code == 401
    again = {**NEW, "email": person.email}
    assert (
        await client.post("/api/admin/users", json=again, headers=admin.headers)
    ).status_code == 201


async def test_a_set_password_ends_every_session(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    person = await people.add("client")
    signed_in = (await client.post("/api/auth/login", json=person.credentials)).json()
    answer = await client.put(
        f"/api/admin/users/{person.id}/password",
        json={"password": "another good one"},
        headers=admin.headers,
    )
    assert answer.json() == {"message": "Password updated successfully"}
    body = {"refresh_token": signed_in["refresh_token"]}
    assert (await client.post("/api/auth/refresh", json=body)).status_code == 401
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.password_changed.v1"
    assert set(event["data"]["new_values"]) == {"user_id", "tokens_not_before"}
    for password, expected in ((PASSWORD, 401), ("another good one", 200)):
        body = {"email": person.email, "password": password}
        assert (await client.post("/api/auth/login", json=body)).status_code == expected


async def test_lists_are_filtered_and_paged(
    client: httpx.AsyncClient, people: People, admin: Person
) -> None:
    await people.copy_organizations(MINE, OTHER)
    mine = [await people.add("client", MINE) for _ in range(3)]
    theirs = await people.add("therapist", OTHER, name="100%_sure")

    async def ids(**params: Any) -> list[int]:
        answer = await client.get("/api/admin/users", params=params, headers=admin.headers)
        assert answer.status_code == 200
        return [user["id"] for user in answer.json()]

    assert await ids(organization_id=MINE) == [person.id for person in reversed(mine)]
    assert await ids(role="therapist") == [theirs.id]
    assert await ids(q="100%_S") == [theirs.id]
    assert await ids(q="%") == [theirs.id]
    assert await ids(is_active=False) == []
    first = await client.get("/api/admin/users", params={"limit": 2}, headers=admin.headers)
    following = first.links["next"]["url"]
    second = await client.get(following, headers=admin.headers)
    listed = [user["id"] for user in first.json() + second.json()]
    assert listed == [theirs.id, *(person.id for person in reversed(mine))]


async def test_no_members_of_no_organization(client: httpx.AsyncClient, admin: Person) -> None:
    answer = await client.get("/api/organizations/99/users", headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "organization_not_found")


async def test_an_unknown_organization_accepts_no_user(
    client: httpx.AsyncClient, people: People, admin: Person
) -> None:
    person = await people.add("client")
    for method, path, body in (
        ("POST", "/api/admin/users", {**NEW, "organization_id": 99}),
        ("PUT", f"/api/admin/users/{person.id}", {"organization_id": 99}),
    ):
        answer = await client.request(method, path, json=body, headers=admin.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "organization_not_found")
    answer = await client.put(
        f"/api/admin/users/{person.id}", json={"role": "organization_owner"}, headers=admin.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "owner_needs_organization")


async def test_without_the_organizations_service_nothing_is_guessed(
    client: httpx.AsyncClient, admin: Person, organizations: Organizations
) -> None:
    organizations.is_down = True
    body = {**NEW, "organization_id": MINE}
    answer = await client.post("/api/admin/users", json=body, headers=admin.headers)
    assert answer.status_code == 503
