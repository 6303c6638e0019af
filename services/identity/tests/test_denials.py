"""What an auditor sees of refusals: permissions, present passwords, throttled sign-ins."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.identity.service.attempt_limits import PER_ACCOUNT_AND_ADDRESS
from services.identity.tests.conftest import MINE, PASSWORD, People, Person
from shared.testing import Database

pytestmark = pytest.mark.anyio


async def _denied(app: FastAPI, database: Database) -> list[dict[str, Any]]:
    await app.state.denials.write(everything=True)
    events = [event["data"] for event in await database.events()]
    return [event for event in events if event["action"] == "DENIED"]


async def test_a_refused_permission_names_the_user_and_the_permission(
    client: httpx.AsyncClient, app: FastAPI, people: People, owner: Person, database: Database
) -> None:
    manager = await people.add("staff", MINE, ("manage_users",))
    path = f"/api/organizations/{MINE}/users/{owner.id}"
    assert (await client.delete(path, headers=manager.headers)).status_code == 403
    [row] = await _denied(app, database)
    assert (row["actor"]["user_id"], row["actor"]["role"]) == (manager.id, "staff")
    assert row["organization_id"] == MINE
    values = row["new_values"]
    assert (values["method"], values["refusal"]) == ("DELETE", "forbidden")
    assert values["route"] == "/api/organizations/{organization_id}/users/{user_id}"
    assert values["path_ids"] == {"organization_id": MINE, "user_id": owner.id}


async def test_wrong_present_passwords_are_one_row_without_them(
    client: httpx.AsyncClient, app: FastAPI, owner: Person, database: Database
) -> None:
    body = {"current_password": "canary-4711-wrong", "new_password": "another good one 22"}
    for _ in range(3):
        answer = await client.put("/api/auth/password", json=body, headers=owner.headers)
        assert answer.status_code == 403
    [row] = await _denied(app, database)
    assert row["actor"]["user_id"] == owner.id
    assert row["new_values"]["refusal"] == "present_password_wrong"
    assert row["new_values"]["count"] == 3
    assert "canary" not in json.dumps(row)
    assert "another good one" not in json.dumps(row)


async def test_a_throttled_sign_in_names_the_account(
    client: httpx.AsyncClient, app: FastAPI, people: People, database: Database
) -> None:
    await people.copy_organizations(MINE)
    member = await people.add("staff", MINE)
    wrong = {**member.credentials, "password": "canary-4711-wrong"}
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        assert (await client.post("/api/auth/login", json=wrong)).status_code == 401
    for _ in range(4):
        assert (await client.post("/api/auth/login", json=wrong)).status_code == 429
    [row] = await _denied(app, database)
    assert (row["actor"]["user_id"], row["actor"]["role"]) == (None, "anonymous")
    assert row["actor"]["ip_address"]
    assert row["organization_id"] == MINE, "its owners see it"
    values = row["new_values"]
    assert (values["refusal"], values["user_id"]) == ("too_many_attempts", member.id)
    assert values["count"] == 4
    assert "canary" not in json.dumps(row)
    assert member.email not in json.dumps(row)


async def test_what_has_a_row_already_gets_no_second_one(
    client: httpx.AsyncClient, app: FastAPI, people: People, database: Database
) -> None:
    waiting = await people.add("client", approved=False, is_active=False)
    answer = await client.post("/api/auth/login", json=waiting.credentials)
    assert answer.status_code == 403
    assert PASSWORD not in json.dumps(await database.events())
    assert await _denied(app, database) == []
    assert [event["data"]["action"] for event in await database.events()] == ["LOGIN_FAILED"]
