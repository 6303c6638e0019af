"""Second factors: set up, signed in with, replayed, guessed at, replaced by recovery codes."""

import asyncio
import time
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from services.identity.app import create_app
from services.identity.settings import Settings
from services.identity.tests.conftest import MINE, PASSWORD, Organizations, People, Person
from shared.testing import Database, Tokens, client_of

pytestmark = pytest.mark.anyio

SIGN_IN = "/api/auth/login"
SECOND_STEP = "/api/auth/login/second-factor"
FACTOR = "/api/auth/second-factor"


async def _signed_in(client: httpx.AsyncClient, person: Person) -> dict[str, str]:
    answer = await client.post(SIGN_IN, json=person.credentials)
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def _challenge(client: httpx.AsyncClient, person: Person) -> str:
    answer = await client.post(SIGN_IN, json=person.credentials)
    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json()["mfa_token"])


async def _answer(client: httpx.AsyncClient, token: str, code: str) -> httpx.Response:
    return await client.post(SECOND_STEP, json={"mfa_token": token, "code": code})


async def _answer_at_two_instances(
    client: httpx.AsyncClient,
    settings: Settings,
    organizations: Organizations,
    tokens: list[str],
    code: str,
) -> list[httpx.Response]:
    """Answer six challenges with one code at the same time, by turns at two instances."""
    second = create_app(settings, transports={"organizations": httpx.MockTransport(organizations)})
    async with client_of(second) as other:
        instances = [client, other] * 3
        return await asyncio.gather(
            *(_answer(each, token, code) for each, token in zip(instances, tokens, strict=True))
        )


class App:
    """An authenticator app: each code is of the step after the last one that was used."""

    def __init__(self, secret: str, database: Database) -> None:
        self.totp = pyotp.TOTP(secret)
        self.database = database

    async def new_code(self) -> str:
        """Return the present code; the step of the last one is set back, as if time had passed."""
        async with self.database.admin() as admin:
            await admin.execute("UPDATE second_factors SET last_step = last_step - 10")
        return self.totp.now()


async def _set_up(
    client: httpx.AsyncClient, database: Database, person: Person
) -> tuple[App, list[str]]:
    headers = await _signed_in(client, person)
    setup = await client.post(FACTOR, headers=headers)
    assert setup.status_code == 201
    assert setup.json()["otpauth_uri"].startswith("otpauth://totp/Carnet:")
    app = App(setup.json()["secret"], database)
    confirmed = await client.post(
        f"{FACTOR}/confirm", json={"code": await app.new_code()}, headers=headers
    )
    assert confirmed.status_code == 200
    return app, confirmed.json()["recovery_codes"]


async def test_a_sign_in_in_two_steps(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    app, _ = await _set_up(client, database, person)
    token = await _challenge(client, person)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/auth/me", headers=headers)).status_code == 401
    refresh = await client.post("/api/auth/refresh", json={"refresh_token": token})
    assert refresh.status_code == 401
    wrong = await _answer(client, token, "12345x")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "second_factor_wrong")
    answer = await _answer(client, token, await app.new_code())
    assert answer.status_code == 200
    assert answer.json()["recovery_codes"] is None
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/api/auth/me", headers=headers)).status_code == 200
    again = await _answer(client, token, await app.new_code())
    assert (again.status_code, again.json()["code"]) == (401, "challenge_not_valid")
    kinds = [event["type"] for event in await database.events()]
    assert "identity.user.second_factor_added.v1" in kinds
    assert kinds[-2:] == ["identity.user.login_failed.v1", "identity.user.logged_in.v1"]


async def test_a_code_is_accepted_once_by_two_instances(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    settings: Settings,
    organizations: Organizations,
) -> None:
    person = await people.add("client")
    app, _ = await _set_up(client, database, person)
    tokens = [await _challenge(client, person) for _ in range(6)]
    code = await app.new_code()
    answers = await _answer_at_two_instances(client, settings, organizations, tokens, code)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5


async def test_an_earlier_code_is_refused_after_a_later_one(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    app, _ = await _set_up(client, database, person)
    last_step = (await database.rows("SELECT last_step FROM second_factors"))[0]["last_step"]
    token = await _challenge(client, person)
    for step in (last_step, last_step - 1):
        assert (await _answer(client, token, app.totp.generate_otp(step))).status_code == 401


async def test_recovery_codes_work_once(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    _, codes = await _set_up(client, database, person)
    assert len(set(codes)) == 10
    first = await _answer(client, await _challenge(client, person), codes[0].lower())
    assert first.status_code == 200
    again = await _answer(client, await _challenge(client, person), codes[0])
    assert again.status_code == 401
    headers = {"Authorization": f"Bearer {first.json()['access_token']}"}
    state = (await client.get(FACTOR, headers=headers)).json()
    assert (state["is_active"], state["recovery_codes_left"]) == (True, 9)
    renewed = (await client.post(f"{FACTOR}/recovery-codes", headers=headers)).json()
    assert (await client.get(FACTOR, headers=headers)).json()["recovery_codes_left"] == 10
    token = await _challenge(client, person)
    assert (await _answer(client, token, codes[1])).status_code == 401
    assert (await _answer(client, token, renewed["recovery_codes"][1])).status_code == 200


async def test_a_recovery_code_opens_one_of_parallel_sign_ins(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    settings: Settings,
    organizations: Organizations,
) -> None:
    person = await people.add("client")
    _, codes = await _set_up(client, database, person)
    tokens = [await _challenge(client, person) for _ in range(6)]
    answers = await _answer_at_two_instances(client, settings, organizations, tokens, codes[0])
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
    used = await database.rows("SELECT 1 FROM recovery_codes WHERE used_at IS NOT NULL")
    assert len(used) == 1


async def test_codes_cannot_be_guessed(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    app, _ = await _set_up(client, database, person)
    statuses = []
    for _ in range(11):
        answer = await _answer(client, await _challenge(client, person), "12345x")
        statuses.append(answer.status_code)
    assert statuses == [401] * 10 + [429]
    late = await _answer(client, await _challenge(client, person), await app.new_code())
    assert late.status_code == 429


async def test_a_new_password_ends_the_challenge(
    client: httpx.AsyncClient, people: People, database: Database, admin: Person
) -> None:
    person = await people.add("client")
    app, _ = await _set_up(client, database, person)
    token = await _challenge(client, person)
    path = f"/api/admin/users/{person.id}/password"
    body = {"password": "another good one"}
    assert (await client.put(path, json=body, headers=admin.headers)).status_code == 200
    answer = await _answer(client, token, await app.new_code())
    assert (answer.status_code, answer.json()["code"]) == (401, "challenge_not_valid")


async def test_a_challenge_expires(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    app, _ = await _set_up(client, database, person)
    token = await _challenge(client, person)
    async with database.admin() as admin:
        await admin.execute("UPDATE sign_in_challenges SET expires_at = now()")
    answer = await _answer(client, token, await app.new_code())
    assert (answer.status_code, answer.json()["code"]) == (401, "challenge_not_valid")


async def test_an_administrator_sets_up_a_factor_at_the_first_sign_in(
    app: FastAPI,
    people: People,
    database: Database,
    settings: Settings,
    organizations: Organizations,
) -> None:
    person = await people.add("admin")
    strict = settings.model_copy(update={"admins_need_second_factor": True})
    strict_app = create_app(
        strict, transports={"organizations": httpx.MockTransport(organizations)}
    )
    async with client_of(strict_app) as client:
        refused = await client.post(SIGN_IN, json=person.credentials)
        assert (refused.status_code, refused.json()["code"]) == (
            403,
            "second_factor_setup_required",
        )
        token = refused.json()["mfa_token"]
        setup = await client.post(f"{SECOND_STEP}/setup", json={"mfa_token": token})
        assert setup.status_code == 200
        code = pyotp.TOTP(setup.json()["secret"]).now()
        answer = await _answer(client, token, code)
        assert answer.status_code == 200
        assert len(answer.json()["recovery_codes"]) == 10
        # Other users need none.
        other = await people.add("client")
        assert (await client.post(SIGN_IN, json=other.credentials)).status_code == 200


async def test_a_removal_needs_a_recent_sign_in(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    app, codes = await _set_up(client, database, person)
    signed_in = (await _answer(client, await _challenge(client, person), codes[0])).json()
    headers = await _aged(client, database, signed_in)
    refused = await client.delete(FACTOR, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "reauthentication_required")
    assert refused.headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_user_authentication", max_age=900'
    )
    path = "/api/auth/reauthenticate"
    wrong = await client.post(path, json={"code": "12345x"}, headers=headers)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "code_wrong")
    both = await client.post(path, json={"code": "123456", "password": "x"}, headers=headers)
    assert both.status_code == 422
    fresh = await client.post(path, json={"code": await app.new_code()}, headers=headers)
    assert fresh.status_code == 200
    headers = {"Authorization": f"Bearer {fresh.json()['access_token']}"}
    assert (await client.delete(FACTOR, headers=headers)).status_code == 200
    assert (await client.delete(FACTOR, headers=headers)).status_code == 404
    await _signed_in(client, person)


async def _aged(
    client: httpx.AsyncClient, database: Database, signed_in: dict[str, Any]
) -> dict[str, str]:
    """Make the sign-in an hour older, and return the headers of a new access token."""
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE sign_in_sessions SET started_at = started_at - interval '1 hour',"
            " authenticated_at = NULL"
        )
    body = {"refresh_token": signed_in["refresh_token"]}
    renewed = (await client.post("/api/auth/refresh", json=body)).json()
    return {"Authorization": f"Bearer {renewed['access_token']}"}


async def test_a_password_renews_the_sign_in(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    signed_in = (await client.post(SIGN_IN, json=person.credentials)).json()
    headers = await _aged(client, database, signed_in)
    assert (await client.post(FACTOR, headers=headers)).status_code == 401
    path = "/api/auth/reauthenticate"
    wrong = await client.post(path, json={"password": "never"}, headers=headers)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "present_password_wrong")
    key = {**headers, "Idempotency-Key": "once"}
    fresh = await client.post(path, json={"password": PASSWORD}, headers=key)
    renewed = {"Authorization": f"Bearer {fresh.json()['access_token']}"}
    assert (await client.post(FACTOR, headers=renewed)).status_code == 201
    repeated = await client.post(path, json={"password": PASSWORD}, headers=key)
    assert (repeated.status_code, repeated.json()["access_token"]) == (200, None)
    events = await database.events()
    assert "identity.user.reauthenticated.v1" in [event["type"] for event in events]


async def test_staff_reset_the_factor_of_a_user(
    client: httpx.AsyncClient, people: People, database: Database, owner: Person
) -> None:
    await people.copy_organizations(MINE)
    person = await people.add("client", MINE)
    manager = await people.add("staff", MINE, ("manage_users",))
    await _set_up(client, database, person)
    await _set_up(client, database, owner)
    users = f"/api/organizations/{MINE}/users"
    path = f"{users}/{person.id}/second-factor"
    for other in (person, await people.add("staff", MINE)):
        assert (await client.delete(path, headers=other.headers)).status_code == 403
    stranger = await people.add("organization_owner", 8)
    assert (await client.delete(path, headers=stranger.headers)).status_code == 404
    assert (await client.delete(path, headers=manager.headers)).status_code == 200
    assert (await client.delete(path, headers=manager.headers)).status_code == 404
    await _signed_in(client, person)
    second_owner = await people.add("organization_owner", MINE)
    of_owner = f"{users}/{owner.id}/second-factor"
    for other in (manager, second_owner):
        assert (await client.delete(of_owner, headers=other.headers)).status_code == 403
    admin = await people.add("admin")
    of_any = f"/api/admin/users/{owner.id}/second-factor"
    assert (await client.delete(of_any, headers=manager.headers)).status_code == 403
    assert (await client.delete(of_any, headers=admin.headers)).status_code == 200
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.second_factor_removed.v1"
    assert event["data"]["new_values"]["by"] == "staff"


async def test_a_new_owner_needs_a_recent_sign_in(
    client: httpx.AsyncClient, people: People, owner: Person, admin: Person, tokens: Tokens
) -> None:
    await people.copy_organizations(MINE)
    person = await people.add("client", MINE)
    old = int(time.time()) - 1000
    of_owner = tokens.access(owner.id, "organization_owner", MINE, auth_time=old)
    of_admin = tokens.access(admin.id, "admin", auth_time=old)
    new = {"email": "new@example.org", "name": "New", "role": "organization_owner"}
    for token, method, path, body in (
        (of_owner, "PUT", f"/api/organizations/{MINE}/users/{person.id}", {"role": new["role"]}),
        (of_owner, "POST", f"/api/organizations/{MINE}/users", new),
        (of_admin, "POST", "/api/admin/users", {**new, "organization_id": MINE}),
        (of_admin, "PUT", f"/api/admin/users/{person.id}", {"role": "admin"}),
    ):
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "reauthentication_required")
    path = f"/api/organizations/{MINE}/users/{person.id}"
    answer = await client.put(
        path, json={"role": "staff"}, headers={"Authorization": f"Bearer {of_owner}"}
    )
    assert answer.status_code == 200
    answer = await client.put(path, json={"role": new["role"]}, headers=owner.headers)
    assert answer.status_code == 200


async def test_nothing_is_stored_in_clear(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    app, codes = await _set_up(client, database, person)
    token = await _challenge(client, person)
    tables = ("second_factors", "recovery_codes", "sign_in_challenges", "outbox")
    stored = [await database.rows(f"SELECT t::text AS line FROM {table} t") for table in tables]
    text = "\n".join(row["line"] for rows in stored for row in rows)
    assert stored[0]
    for secret in (app.totp.secret, token, *codes):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_the_user_gets_a_message(
    app: FastAPI, people: People, database: Database, client: httpx.AsyncClient
) -> None:
    person = await people.add("client")
    _, codes = await _set_up(client, database, person)
    await _answer(client, await _challenge(client, person), codes[0])
    rows = await database.rows("SELECT template FROM outgoing_mails ORDER BY id")
    assert [row["template"] for row in rows] == ["second_factor_changed"] * 2
