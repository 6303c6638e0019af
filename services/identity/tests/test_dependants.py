"""Dependants: clients without an account, whose guardian acts for them."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.identity.tests.conftest import MINE, OTHER, People, Person
from shared.db import now
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

OWN = "/api/auth/dependants"
CHILD = {"name": "Zofia Nowak", "date_of_birth": "2018-05-04"}


def _of(person: Person, organization_id: int = MINE) -> str:
    return f"/api/organizations/{organization_id}/users/{person.id}/dependants"


async def _added(client: httpx.AsyncClient, guardian: Person, **changes: Any) -> dict[str, Any]:
    answer = await client.post(OWN, json={**CHILD, **changes}, headers=guardian.headers)
    assert answer.status_code == 201, answer.text
    dependant: dict[str, Any] = answer.json()
    return dependant


async def test_a_guardian_manages_dependants(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    guardian = await people.add("client", MINE)
    dependant = await _added(client, guardian)
    assert {name: dependant[name] for name in CHILD} == CHILD
    assert (dependant["guardian_id"], dependant["organization_id"]) == (guardian.id, MINE)
    path = f"{OWN}/{dependant['id']}"
    changes = {"name": "Zosia Nowak", "date_of_birth": None}
    changed = await client.put(path, json=changes, headers=guardian.headers | {"If-Match": '"1"'})
    assert (changed.json()["name"], changed.json()["date_of_birth"]) == ("Zosia Nowak", None)
    stale = await client.put(path, json=changes, headers=guardian.headers | {"If-Match": '"1"'})
    assert stale.status_code == 412
    listed = await client.get(OWN, headers=guardian.headers)
    assert [row["name"] for row in listed.json()] == ["Zosia Nowak"]
    assert (await client.delete(path, headers=guardian.headers)).status_code == 200
    assert (await client.get(OWN, headers=guardian.headers)).json() == []
    gone = await client.delete(path, headers=guardian.headers)
    assert (gone.status_code, gone.json()["code"]) == (404, "dependant_not_found")
    created, updated, deleted = [event["data"] for event in await database.events()]
    assert created["new_values"]["name"] == "Zofia Nowak"
    assert updated["new_values"] == {"name": "Zosia Nowak"}
    assert deleted["old_values"]["name"] == "Zosia Nowak"
    assert deleted["new_values"]["name"] == f"Deleted client {dependant['id']}"
    assert {data["organization_id"] for data in (created, updated, deleted)} == {MINE}
    assert "2018-05-04" not in str(await database.events()), (
        "the date of birth leaves nothing behind"
    )
    [row] = await database.rows("SELECT name, date_of_birth, is_active FROM dependants")
    assert "Nowak" not in row["name"]
    assert (row["date_of_birth"], row["is_active"]) == (None, False)


async def test_an_id_is_that_of_no_user(client: httpx.AsyncClient, people: People) -> None:
    guardian = await people.add("client", MINE)
    ids = [guardian.id]
    for _ in range(3):
        ids.append((await _added(client, guardian))["id"])
        ids.append((await people.add("client", MINE)).id)
    assert len(set(ids)) == len(ids)


async def test_staff_manage_dependants_of_clients(
    client: httpx.AsyncClient, people: People, owner: Person
) -> None:
    guardian = await people.add("client", MINE)
    manager = await people.add("staff", MINE, ("manage_users",))
    answer = await client.post(_of(guardian), json=CHILD, headers=manager.headers)
    assert (answer.status_code, answer.json()["guardian_id"]) == (201, guardian.id)
    path = f"{_of(guardian)}/{answer.json()['id']}"
    assert (await client.put(path, json={"name": "Z"}, headers=owner.headers)).status_code == 200
    listed = await client.get(_of(guardian), headers=owner.headers)
    assert [row["name"] for row in listed.json()] == ["Z"]
    assert (await client.delete(path, headers=owner.headers)).status_code == 200


async def test_nobody_else_reaches_them(client: httpx.AsyncClient, people: People) -> None:
    guardian = await people.add("client", MINE)
    neighbour = await people.add("client", MINE)
    staff = await people.add("staff", MINE)
    stranger = await people.add("organization_owner", OTHER)
    dependant = await _added(client, guardian)
    path = f"{OWN}/{dependant['id']}"
    assert (await client.put(path, json=CHILD, headers=neighbour.headers)).status_code == 404
    assert (await client.delete(path, headers=neighbour.headers)).status_code == 404
    for person, path, status in (
        (staff, _of(guardian), 403),
        (neighbour, _of(guardian), 403),
        (stranger, _of(guardian), 404),
        (stranger, _of(guardian, OTHER), 404),
    ):
        answer = await client.get(path, headers=person.headers)
        assert answer.status_code == status
        answer = await client.post(path, json=CHILD, headers=person.headers)
        assert answer.status_code == status
    anonymous = await client.get(OWN)
    assert anonymous.status_code == 401


@pytest.mark.parametrize(
    ("role", "organization_id"),
    [("therapist", MINE), ("organization_owner", MINE), ("admin", None), ("client", None)],
    ids=["therapist", "owner", "admin", "free_client"],
)
async def test_who_cannot_be_a_guardian(
    client: httpx.AsyncClient, people: People, role: str, organization_id: int | None
) -> None:
    person = await people.add(role, organization_id)
    answer = await client.post(OWN, json=CHILD, headers=person.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "cannot_be_guardian")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": None}, "name"),
        ({"date_of_birth": "2018-13-01"}, "date_of_birth"),
        ({"date_of_birth": 20180504}, "date_of_birth"),
        ({"date_of_birth": (now() + timedelta(days=3)).date().isoformat()}, "date_of_birth"),
        ({"email": "zofia@example.org"}, "email"),
    ],
    ids=["blank", "null", "month", "number", "future", "email"],
)
async def test_bad_input_is_refused_by_name(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], field: str
) -> None:
    guardian = await people.add("client", MINE)
    answer = await client.post(OWN, json={**CHILD, **changes}, headers=guardian.headers)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_thirty_are_the_most(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    guardian = await people.add("client", MINE)
    async with database.admin() as admin:
        await admin.execute(
            "INSERT INTO dependants (guardian_id, organization_id, name, is_active, created_at,"
            " updated_at, version) SELECT $1, $2, 'Child', true, now(), now(), 1"
            " FROM generate_series(1, 29)",
            guardian.id,
            MINE,
        )
    await _added(client, guardian)
    answer = await client.post(OWN, json=CHILD, headers=guardian.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_dependants")


async def test_they_are_deleted_with_their_guardian(
    client: httpx.AsyncClient, people: People, admin: Person, database: Database
) -> None:
    guardian = await people.add("client", MINE)
    dependant = await _added(client, guardian)
    path = f"/api/admin/users/{guardian.id}"
    assert (await client.delete(path, headers=admin.headers)).status_code == 200
    [row] = await database.rows("SELECT name, deleted_at FROM dependants")
    assert row["name"] == f"Deleted client {dependant['id']}"
    assert row["deleted_at"] is not None
    kinds = [event["type"] for event in await database.events()]
    assert "identity.dependant.deleted.v1" in kinds
    assert "identity.user.deleted.v1" in kinds


async def test_they_leave_with_their_guardian(
    client: httpx.AsyncClient, people: People, owner: Person, database: Database
) -> None:
    guardian = await people.add("client", MINE)
    await _added(client, guardian)
    path = f"/api/organizations/{MINE}/users/{guardian.id}"
    assert (await client.delete(path, headers=owner.headers)).status_code == 200
    [row] = await database.rows("SELECT organization_id, is_active FROM dependants")
    assert (row["organization_id"], row["is_active"]) == (None, True)
    events = [event for event in await database.events() if "dependant.updated" in event["type"]]
    [moved] = [event["data"] for event in events]
    assert moved["old_values"] == {"organization_id": MINE}
    assert (moved["new_values"], moved["organization_id"]) == ({"organization_id": None}, MINE)
    kinds = [event["type"] for event in await database.events()]
    assert "identity.user.updated.v1" in kinds


async def test_vouchers_copies_a_dependant_with_the_guardian(
    client: httpx.AsyncClient, people: People, tokens: Tokens
) -> None:
    guardian = await people.add("client", MINE)
    dependant = await _added(client, guardian)
    headers = tokens.service_bearer("vouchers", "identity")
    answer = await client.get(f"/internal/users/{dependant['id']}", headers=headers)
    assert answer.json() == {
        "id": dependant["id"],
        "version": 1,
        "name": "Zofia Nowak",
        "email": None,
        "role": "client",
        "organization_id": MINE,
        "is_active": True,
        "guardian_id": guardian.id,
        "locale": None,
    }
    answer = await client.get(f"/internal/users/{guardian.id}", headers=headers)
    assert (answer.json()["email"], answer.json()["guardian_id"]) == (guardian.email, None)
