"""Granting and revoking."""

import anyio
import httpx
import pytest

from services.identity.tests.conftest import MINE, OTHER, People, Person, downgrade
from shared.migrations import upgrade
from shared.testing import Database

pytestmark = pytest.mark.anyio


def _path(person: Person, organization_id: int = MINE) -> str:
    return f"/api/organizations/{organization_id}/users/{person.id}/permissions"


async def test_a_grant_is_recorded_and_ends_older_tokens(
    client: httpx.AsyncClient, people: People, owner: Person, database: Database
) -> None:
    staff = await people.add("staff", MINE)
    body = {"permission": "manage_vouchers"}
    answer = await client.post(_path(staff), json=body, headers=owner.headers)
    assert answer.status_code == 201
    assert (answer.json()["user_id"], answer.json()["granted_by"]) == (staff.id, owner.id)
    answer = await client.post(_path(staff), json=body, headers=owner.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "permission_already_granted")
    [event] = await database.events()
    assert event["type"] == "identity.permission.granted.v1"
    assert event["data"]["organization_id"] == MINE
    new = event["data"]["new_values"]
    assert (new["permission"], new["user_id"]) == ("manage_vouchers", staff.id)
    [user] = await database.rows("SELECT * FROM users WHERE id = $1", staff.id)
    assert new["tokens_not_before"] == round(user["tokens_not_before"].timestamp(), 3)


async def test_a_revocation_keeps_what_was_in_the_event(
    client: httpx.AsyncClient, people: People, owner: Person, database: Database
) -> None:
    staff = await people.add("staff", MINE, ("all",))
    path = _path(staff) + "/all"
    answer = await client.delete(path, headers=owner.headers)
    assert answer.json() == {"message": "Permission revoked successfully"}
    answer = await client.delete(path, headers=owner.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "permission_not_granted")
    [event] = await database.events()
    assert event["type"] == "identity.permission.revoked.v1"
    assert event["data"]["old_values"]["permission"] == "all"
    assert event["data"]["new_values"]["user_id"] == staff.id
    assert event["data"]["new_values"]["tokens_not_before"]


async def test_voucher_managers_of_an_older_version_are_granted_bookings(
    database: Database, people: People
) -> None:
    await downgrade(database, "0005")
    manager = await people.add("staff", MINE, ("manage_vouchers",))
    await people.add("staff", MINE, ("view_payments", "all"))
    await upgrade("services.identity", database.owner_url)
    query = "SELECT * FROM permissions WHERE permission = 'manage_bookings'"
    [permission] = await database.rows(query)
    assert (permission["user_id"], permission["organization_id"]) == (manager.id, MINE)
    [event] = await database.events()
    assert event["type"] == "identity.permission.granted.v1"
    assert event["data"]["organization_id"] == MINE
    assert event["data"]["actor"]["role"] == "system"
    new = event["data"]["new_values"]
    assert (new["permission"], new["user_id"]) == ("manage_bookings", manager.id)
    [user] = await database.rows("SELECT * FROM users WHERE id = $1", manager.id)
    assert new["tokens_not_before"] == round(user["tokens_not_before"].timestamp(), 3)


@pytest.mark.parametrize("role", ["client", "organization_owner"])
async def test_the_role_decides_for_clients_and_owners(
    client: httpx.AsyncClient, people: People, owner: Person, role: str
) -> None:
    person = await people.add(role, MINE)
    answer = await client.post(_path(person), json={"permission": "all"}, headers=owner.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "role_holds_no_permissions")


async def test_who_holds_all_but_does_not_own_grants_nothing(
    client: httpx.AsyncClient, people: People
) -> None:
    powerful = await people.add("staff", MINE, ("all",))
    other = await people.add("staff", MINE)
    for person in (other, powerful):
        answer = await client.post(
            _path(person), json={"permission": "view_payments"}, headers=powerful.headers
        )
        assert answer.status_code == 403


@pytest.mark.parametrize("permission", ["everything", "", "ALL", None])
async def test_unknown_permissions_are_refused(
    client: httpx.AsyncClient, people: People, owner: Person, permission: str | None
) -> None:
    staff = await people.add("staff", MINE)
    body = {"permission": permission}
    answer = await client.post(_path(staff), json=body, headers=owner.headers)
    assert answer.status_code == 422


async def test_an_administrator_grants_within_the_users_organization(
    client: httpx.AsyncClient, people: People, admin: Person
) -> None:
    staff = await people.add("staff", MINE)
    body = {"permission": "all"}
    answer = await client.post(_path(staff, OTHER), json=body, headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    answer = await client.post(_path(staff), json=body, headers=admin.headers)
    assert answer.status_code == 201
    listed = await client.get(_path(staff), headers=admin.headers)
    assert [permission["permission"] for permission in listed.json()] == ["all"]


async def test_grants_at_once_are_one(
    client: httpx.AsyncClient, people: People, owner: Person, database: Database
) -> None:
    staff = await people.add("staff", MINE)
    statuses: list[int] = []

    async def one() -> None:
        body = {"permission": "all"}
        answer = await client.post(_path(staff), json=body, headers=owner.headers)
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert sorted(statuses) == [201, 409, 409, 409, 409]
    assert len(await database.events()) == 1


async def test_me_lists_what_was_granted(client: httpx.AsyncClient, people: People) -> None:
    staff = await people.add("staff", MINE, ("view_payments", "manage_users"))
    answer = await client.get("/api/auth/me", headers=staff.headers)
    assert answer.json()["permissions"] == ["manage_users", "view_payments"]
    assert answer.headers["etag"] == '"1"'
