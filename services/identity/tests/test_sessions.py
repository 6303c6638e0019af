"""One's own sessions and password; the revocations that gateways read."""

import base64
import json
from typing import Any

import httpx
import pytest

from services.identity.service.cleanup import delete_expired
from services.identity.tests.conftest import MINE, PASSWORD, People, Person
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def sign_in(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    answer = await client.post("/api/auth/login", json=person.credentials)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    body["headers"] = {"Authorization": f"Bearer {body['access_token']}"}
    return body


async def _is_live(client: httpx.AsyncClient, signed_in: dict[str, Any]) -> bool:
    body = {"refresh_token": signed_in["refresh_token"]}
    answer = await client.post("/api/auth/refresh", json=body)
    if answer.status_code == 200:
        signed_in["refresh_token"] = answer.json()["refresh_token"]
    return answer.status_code == 200


async def test_sessions_are_listed_and_ended(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person, stranger = await people.add("client"), await people.add("client")
    first, second = await sign_in(client, person), await sign_in(client, person)
    listed = (await client.get("/api/auth/sessions", headers=second["headers"])).json()
    assert [session["is_current"] for session in listed] == [True, False]
    path = f"/api/auth/sessions/{listed[1]['id']}"
    assert (await client.delete(path, headers=stranger.headers)).status_code == 404
    assert (await client.delete(path, headers=second["headers"])).status_code == 200
    assert (await client.delete(path, headers=second["headers"])).status_code == 404
    assert not await _is_live(client, first)
    assert await _is_live(client, second)
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.logged_out.v1"
    assert event["data"]["new_values"]["ended_sessions"] == [listed[1]["id"]]
    assert event["data"]["actor"]["user_id"] == person.id


async def test_signing_out_everywhere(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person, other = await people.add("client"), await people.add("client")
    mine, theirs = [await sign_in(client, person) for _ in range(3)], await sign_in(client, other)
    answer = await client.delete("/api/auth/sessions", headers=mine[0]["headers"])
    assert answer.json() == {"message": "Signed out everywhere: 3 session(s) ended"}
    assert not any([await _is_live(client, session) for session in mine])
    assert await _is_live(client, theirs)
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.logged_out.v1"
    assert event["data"]["new_values"]["user_id"] == person.id
    assert event["data"]["new_values"]["tokens_not_before"]


async def test_a_new_password_ends_the_other_sessions(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    here, elsewhere = await sign_in(client, person), await sign_in(client, person)
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    answer = await client.put("/api/auth/password", json=body, headers=here["headers"])
    assert answer.json() == {"message": "Password updated successfully"}
    assert await _is_live(client, here)
    assert not await _is_live(client, elsewhere)
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.password_changed.v1"
    assert len(event["data"]["new_values"]["ended_sessions"]) == 1
    answer = await client.put("/api/auth/password", json=body, headers=here["headers"])
    assert (answer.status_code, answer.json()["code"]) == (403, "present_password_wrong")


async def test_me_can_be_changed_a_little(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    body = {"name": "Zażółć", "phone": "+48 600 100 200"}
    answer = await client.put("/api/auth/me", json=body, headers=owner.headers)
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["phone"]) == ("Zażółć", "+48 600 100 200")
    answer = await client.put("/api/auth/me", json={"phone": None}, headers=owner.headers)
    assert answer.json()["phone"] is None
    answer = await client.put("/api/auth/me", json={"locale": "de-AT"}, headers=owner.headers)
    assert answer.json()["locale"] == "de-AT"
    for field in ("email", "role", "organization_id", "is_active", "locale"):
        answer = await client.put("/api/auth/me", json={field: "x"}, headers=owner.headers)
        assert answer.status_code == 422
    assert len(await database.events()) == 3


async def test_a_deleted_account_is_unauthenticated(
    client: httpx.AsyncClient, people: People, admin: Person
) -> None:
    person = await people.add("client")
    await client.delete(f"/api/admin/users/{person.id}", headers=admin.headers)
    for method, path, body in (
        ("GET", "/api/auth/me", None),
        ("PUT", "/api/auth/me", {"name": "N"}),
        ("DELETE", "/api/auth/sessions", None),
        ("PUT", "/api/auth/password", {"current_password": "x", "new_password": "y" * 12}),
        ("POST", "/api/auth/logout", {}),
    ):
        answer = await client.request(method, path, json=body, headers=person.headers)
        assert answer.status_code == 401, path


async def test_a_starting_gateway_reads_what_is_void(
    client: httpx.AsyncClient, people: People, admin: Person, tokens: Tokens, database: Database
) -> None:
    await people.copy_organizations(MINE, is_active=False)
    quiet, left, cut = [await people.add("client") for _ in range(3)]
    await sign_in(client, quiet)
    signed_in = await sign_in(client, left)
    await client.post("/api/auth/logout", json={"refresh_token": signed_in["refresh_token"]})
    before = await sign_in(client, cut)
    await client.put(f"/api/admin/users/{cut.id}", json={"role": "staff"}, headers=admin.headers)
    after = await sign_in(client, cut)
    headers = tokens.service_bearer("gateway", "identity")
    answer = await client.get("/internal/revocations", headers=headers)
    void = answer.json()
    ended = await database.rows("SELECT id FROM sign_in_sessions WHERE ended_at IS NOT NULL")
    assert void["revoked_sessions"] == [str(session["id"]) for session in ended]
    assert void["organizations"] == [MINE]
    [copy] = await database.rows("SELECT is_active_version FROM organization_copies")
    assert void["organization_versions"] == {str(MINE): copy["is_active_version"]}
    assert list(void["users"]) == [str(cut.id)]
    instants = [_issued_at(session["access_token"]) for session in (before, after)]
    assert instants[0] < void["users"][str(cut.id)] <= instants[1]
    [event] = [e for e in await database.events() if e["data"]["action"] == "UPDATE"]
    assert event["data"]["new_values"]["tokens_not_before"] == void["users"][str(cut.id)]


def _issued_at(token: str) -> float:
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return float(claims["iat"])


async def test_the_worker_forgets_what_is_over(
    client: httpx.AsyncClient, people: People, transactions: Transactions, database: Database
) -> None:
    person = await people.add("client")
    for _ in range(2):
        await sign_in(client, person)
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE sign_in_sessions SET ended_at = now() - interval '91 days'"
            " WHERE id = (SELECT id FROM sign_in_sessions LIMIT 1)"
        )
        await admin.execute("UPDATE attempt_counts SET ends_at = now()")
    await delete_expired(transactions)
    assert len(await database.rows("SELECT * FROM sign_in_sessions")) == 1
    assert len(await database.rows("SELECT * FROM refresh_tokens")) == 1
    assert await database.rows("SELECT * FROM attempt_counts") == []
