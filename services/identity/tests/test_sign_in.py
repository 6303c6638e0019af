"""Signing in, exchanging tokens, signing out."""

import time
from typing import Any

import anyio
import bcrypt
import httpx
import pytest
from pydantic import SecretStr

from services.identity.app import create_app
from services.identity.security.key_encryption import KeyEncryption
from services.identity.service.cleanup import delete_expired
from services.identity.service.refresh_answers import RefreshAnswers
from services.identity.settings import Settings
from services.identity.tests.conftest import HASHED, MINE, PASSWORD, Organizations, People, Person
from shared.testing import AUDIENCE, ISSUER, Database, Tokens, client_of
from shared.tokens import Keys, TokenVerifier
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def sign_in(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    answer = await client.post("/api/auth/login", json=person.credentials)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/auth/refresh", json={"refresh_token": token})


async def test_an_access_token_names_the_user_and_the_rights(
    client: httpx.AsyncClient, people: People, tokens: Tokens, database: Database
) -> None:
    person = await people.add("staff", MINE, ("manage_users", "view_payments"))
    signed_in = await sign_in(client, person)
    assert (signed_in["token_type"], signed_in["expires_in"]) == ("bearer", 600)
    verifier = TokenVerifier(Keys(pinned=tokens.jwks), ISSUER, AUDIENCE)
    actor = await verifier.verify(signed_in["access_token"])
    assert (actor.user_id, actor.role, actor.organization_id) == (person.id, "staff", MINE)
    assert actor.permissions == {"manage_users", "view_payments"}
    [session] = await database.rows("SELECT * FROM sign_in_sessions")
    assert actor.session_id == str(session["id"])
    [user] = await database.rows("SELECT * FROM users")
    assert user["last_login"] is not None


async def test_a_sign_in_is_recorded_in_the_users_name(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    headers = {"X-Client-Address": "203.0.113.9", "User-Agent": "Browser/1"}
    await client.post("/api/auth/login", json=owner.credentials, headers=headers)
    [event] = await database.events()
    assert event["type"] == "identity.user.logged_in.v1"
    data = event["data"]
    assert (data["entity_id"], data["organization_id"]) == (owner.id, MINE)
    assert data["actor"]["user_id"] == owner.id
    assert data["actor"]["ip_address"] == "203.0.113.9"
    assert data["actor"]["user_agent"] == "Browser/1"
    assert set(data["new_values"]) == {"last_login", "session_id"}


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("&".join(f"key{number}=1" for number in range(90_000)), 422),
        (";".join(f"key{number}=1" for number in range(90_000)), 413),
        ("username=" + "a" * 1_000_000, 413),
        ("password=" + "%41" * 300_000, 413),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_large_form_costs_little(client: httpx.AsyncClient, form: str, status: int) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    spent = []
    for _ in range(2):  # the first one pays for what is done once
        started = time.process_time()
        answer = await client.post("/api/auth/token", content=form, headers=headers)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.2
    assert answer.status_code == status, answer.text
    assert len(answer.content) < 64 * 1024


async def test_tools_sign_in_by_form(client: httpx.AsyncClient, owner: Person) -> None:
    form = {"grant_type": "password", "username": owner.email.upper(), "password": PASSWORD}
    answer = await client.post("/api/auth/token", data=form)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    refused = await client.post("/api/auth/token", data={**form, "username": "a\x00b"})
    assert refused.status_code == 422
    in_json = await client.post("/api/auth/token", json=form)
    assert in_json.status_code == 415
    assert in_json.headers["accept"] == "application/x-www-form-urlencoded"


async def test_known_and_unknown_accounts_are_refused_alike(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    wrong = await client.post("/api/auth/login", json={"email": owner.email, "password": "no"})
    unknown = await client.post("/api/auth/login", json={"email": "x@y.org", "password": "no"})
    for answer in (wrong, unknown):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    first, second = wrong.json(), unknown.json()
    assert {**first, "request_id": ""} == {**second, "request_id": ""}
    reasons = [event["data"]["new_values"]["reason"] for event in await database.events()]
    assert reasons == ["wrong_password", "unknown_account"]
    assert {event["type"] for event in await database.events()} == {"identity.user.login_failed.v1"}


async def test_a_stale_access_token_does_not_stop_a_sign_in(
    client: httpx.AsyncClient, owner: Person
) -> None:
    headers = {"Authorization": "Bearer stale"}
    answer = await client.post("/api/auth/login", json=owner.credentials, headers=headers)
    assert answer.status_code == 200
    body = {"refresh_token": answer.json()["refresh_token"]}
    answer = await client.post("/api/auth/refresh", json=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"approved": False, "is_active": False}, "awaiting_approval"),
        ({"is_active": False}, "account_deactivated"),
    ],
)
async def test_the_reason_of_a_refusal_needs_the_right_password(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    changes: dict[str, Any],
    code: str,
) -> None:
    person = await people.add("client", MINE, **changes)
    right = await client.post("/api/auth/login", json=person.credentials)
    assert (right.status_code, right.json()["code"]) == (403, code)
    assert right.json()["detail"].startswith("Not authorized")
    wrong = {**person.credentials, "password": "wrong"}
    answer = await client.post("/api/auth/login", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert await database.rows("SELECT * FROM sign_in_sessions") == []


async def test_members_of_a_closed_organization_stay_outside(
    client: httpx.AsyncClient, owner: Person, organizations: Organizations
) -> None:
    organizations.add(MINE, "mine", is_active=False)
    answer = await client.post("/api/auth/login", json=owner.credentials)
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_deactivated")


async def test_a_missing_copy_is_fetched_once(
    client: httpx.AsyncClient, owner: Person, organizations: Organizations
) -> None:
    for _ in range(2):
        await sign_in(client, owner)
    assert organizations.asked == 1


async def test_an_older_copy_gets_its_letterhead_and_is_enough_without_it(
    client: httpx.AsyncClient,
    owner: Person,
    people: People,
    organizations: Organizations,
    database: Database,
) -> None:
    await people.copy_organizations(MINE)
    async with database.admin() as admin:
        await admin.execute("UPDATE organization_copies SET name = NULL, name_version = 0")
    organizations.is_down = True
    await sign_in(client, owner)
    organizations.is_down = False
    for _ in range(2):
        await sign_in(client, owner)
    [copy] = await database.rows("SELECT name FROM organization_copies")
    assert (copy["name"], organizations.asked) == ("Mine", 2)


async def test_without_copy_and_service_the_answer_is_try_again(
    client: httpx.AsyncClient, owner: Person, organizations: Organizations
) -> None:
    organizations.is_down = True
    answer = await client.post("/api/auth/login", json=owner.credentials)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("password", ["pässword of version one", "x" * 100])
async def test_hashes_of_version_1_sign_in_and_are_renewed(
    client: httpx.AsyncClient, people: People, database: Database, password: str
) -> None:
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    person = await people.add("client", password_hash=hashed)
    for _ in range(2):
        body = {"email": person.email, "password": password}
        answer = await client.post("/api/auth/login", json=body)
        assert answer.status_code == 200
        [user] = await database.rows("SELECT password_hash FROM users")
        assert user["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_refresh_token_is_good_once(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    first = await sign_in(client, owner)
    second = await refresh(client, first["refresh_token"])
    assert second.status_code == 200
    assert second.json()["refresh_token"] != first["refresh_token"]
    async with database.admin() as admin:
        await admin.execute("UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds'")
    stolen = await refresh(client, first["refresh_token"])
    assert (stolen.status_code, stolen.json()["code"]) == (401, "invalid_refresh_token")
    after = await refresh(client, second.json()["refresh_token"])
    assert after.status_code == 401, "the whole session has ended"
    [session] = await database.rows("SELECT * FROM sign_in_sessions")
    assert session["end_reason"] == "refresh_token_reused"
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.logged_out.v1"
    assert event["data"]["new_values"]["ended_sessions"] == [str(session["id"])]


async def test_parallel_refreshes_at_two_instances_give_the_same_tokens(
    client: httpx.AsyncClient, settings: Settings, owner: Person, database: Database
) -> None:
    signed_in = await sign_in(client, owner)
    answers: list[httpx.Response] = []

    async def one(instance: httpx.AsyncClient) -> None:
        answers.append(await refresh(instance, signed_in["refresh_token"]))

    async with client_of(create_app(settings)) as other:
        other.cookies = client.cookies
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, (client, other)[number % 2])
        assert {answer.status_code for answer in answers} == {200}
        for name in ("access_token", "refresh_token"):
            assert len({answer.json()[name] for answer in answers}) == 1, name
        assert all(580 < answer.json()["expires_in"] <= 600 for answer in answers)
        new = answers[0].json()["refresh_token"]
        assert (await refresh(other, new)).status_code == 200
    assert len(await database.rows("SELECT * FROM refresh_tokens")) == 3
    [session] = await database.rows("SELECT * FROM sign_in_sessions")
    assert session["ended_at"] is None
    types = [event["type"] for event in await database.events()]
    assert "identity.user.logged_out.v1" not in types


async def test_what_is_kept_of_an_exchange_is_encrypted_and_erased(
    client: httpx.AsyncClient,
    settings: Settings,
    owner: Person,
    database: Database,
    transactions: Transactions,
) -> None:
    signed_in = await sign_in(client, owner)
    exchanged = (await refresh(client, signed_in["refresh_token"])).json()
    [answer] = await database.rows("SELECT answer FROM refresh_tokens WHERE answer IS NOT NULL")
    everything = str(await database.rows("SELECT * FROM refresh_tokens"))
    for token in (signed_in["refresh_token"], exchanged["refresh_token"]):
        assert token not in everything
    assert exchanged["access_token"].split(".")[2] not in everything
    answers = RefreshAnswers(KeyEncryption(settings.signing_secret))
    # The jar has the value as it was sent, in quotation marks.
    device = client.cookies["carnet_device"].strip('"')
    stored, used = answer["answer"], signed_in["refresh_token"]
    assert answers.decrypt(used, device, stored) is not None
    assert answers.decrypt(exchanged["refresh_token"], device, stored) is None, "another token"
    assert answers.decrypt(used, None, stored) is None, "no device"
    other = RefreshAnswers(KeyEncryption(SecretStr("A" * 43)))
    assert other.decrypt(used, device, stored) is None, "another secret"
    await delete_expired(transactions)
    assert (await refresh(client, signed_in["refresh_token"])).status_code == 200
    async with database.admin() as admin:
        await admin.execute("UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds'")
    await delete_expired(transactions)
    kept = await database.rows("SELECT answer FROM refresh_tokens")
    assert [row["answer"] for row in kept] == [None, None]
    assert (await refresh(client, signed_in["refresh_token"])).status_code == 401


@pytest.mark.parametrize("cookie", [None, "of another sign-in"], ids=["none", "another"])
async def test_an_exchange_is_not_repeated_for_another_device(
    client: httpx.AsyncClient, owner: Person, database: Database, cookie: str | None
) -> None:
    token = (await sign_in(client, owner))["refresh_token"]
    own = client.cookies["carnet_device"]
    assert (await refresh(client, token)).status_code == 200
    client.cookies.clear()
    if cookie is not None:
        await sign_in(client, owner)
        assert client.cookies["carnet_device"] != own
    assert (await refresh(client, token)).status_code == 401
    reasons = {row["end_reason"] for row in await database.rows("SELECT * FROM sign_in_sessions")}
    assert "refresh_token_reused" in reasons


async def test_a_client_without_cookies_repeats_an_exchange(
    client: httpx.AsyncClient, owner: Person
) -> None:
    token = (await sign_in(client, owner))["refresh_token"]
    client.cookies.clear()
    first, second = [await refresh(client, token) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["refresh_token"] == second.json()["refresh_token"]


async def test_who_repeats_an_exchange_after_the_next_one_ends_the_session(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    """A thief and the owner with one answer: one of them exchanges its refresh token second."""
    first = (await sign_in(client, owner))["refresh_token"]
    second = (await refresh(client, first)).json()["refresh_token"]
    third = (await refresh(client, second)).json()["refresh_token"]
    assert (await refresh(client, first)).status_code == 401
    assert (await refresh(client, third)).status_code == 401, "the whole session has ended"
    [session] = await database.rows("SELECT * FROM sign_in_sessions")
    assert session["end_reason"] == "refresh_token_reused"


async def test_a_repeated_exchange_admits_no_user_who_may_not_sign_in(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    first = (await sign_in(client, owner))["refresh_token"]
    assert (await refresh(client, first)).status_code == 200
    async with database.admin() as admin:
        await admin.execute("UPDATE users SET is_active = false")
    assert (await refresh(client, first)).status_code == 403
    async with database.admin() as admin:
        await admin.execute("UPDATE users SET is_active = true")
    answer = await client.post("/api/auth/logout", json={"refresh_token": first})
    assert answer.status_code == 200
    assert (await refresh(client, first)).status_code == 401


async def test_refresh_brings_new_rights_and_refuses_the_deactivated(
    client: httpx.AsyncClient, people: People, tokens: Tokens, database: Database
) -> None:
    person = await people.add("staff", MINE)
    signed_in = await sign_in(client, person)
    async with database.admin() as admin:
        await admin.execute("UPDATE users SET role = 'therapist'")
    answer = await refresh(client, signed_in["refresh_token"])
    verifier = TokenVerifier(Keys(pinned=tokens.jwks), ISSUER, AUDIENCE)
    assert (await verifier.verify(answer.json()["access_token"])).role == "therapist"
    async with database.admin() as admin:
        await admin.execute("UPDATE users SET is_active = false")
    answer = await refresh(client, answer.json()["refresh_token"])
    assert (answer.status_code, answer.json()["code"]) == (403, "account_deactivated")


async def test_an_expired_session_is_over(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    signed_in = await sign_in(client, owner)
    async with database.admin() as admin:
        await admin.execute("UPDATE sign_in_sessions SET expires_at = now()")
    assert (await refresh(client, signed_in["refresh_token"])).status_code == 401


async def test_logout_by_either_token(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    for by_refresh_token in (True, False):
        signed_in = await sign_in(client, owner)
        bearer = {"Authorization": f"Bearer {signed_in['access_token']}"}
        body = {"refresh_token": signed_in["refresh_token"]} if by_refresh_token else {}
        for _ in range(2):
            answer = await client.post("/api/auth/logout", json=body, headers=bearer)
            assert answer.status_code == 200
        assert (await refresh(client, signed_in["refresh_token"])).status_code == 401
    types = [event["type"] for event in await database.events()]
    assert types.count("identity.user.logged_out.v1") == 2
    for body in ({}, {"refresh_token": "never was"}):
        assert (await client.post("/api/auth/logout", json=body)).status_code == 401


async def test_no_secret_enters_an_event_or_a_table_in_the_clear(
    client: httpx.AsyncClient, owner: Person, database: Database
) -> None:
    signed_in = await sign_in(client, owner)
    renewed = (await refresh(client, signed_in["refresh_token"])).json()
    canaries = [PASSWORD, HASHED, *signed_in.values(), *renewed.values()]
    secrets = [text for text in canaries if isinstance(text, str) and len(text) > 10]
    for table in ("outbox", "sign_in_sessions", "refresh_tokens", "attempt_counts"):
        kept = str(await database.rows(f"SELECT * FROM {table}"))
        assert not [secret for secret in secrets if secret in kept], table
