"""Canaries: passwords, tokens and card numbers sent everywhere are found nowhere afterwards."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pyotp import TOTP

from deploy.api_client import CardGateway, Mailbox, unique
from deploy.local.stack import Stack
from deploy.local.system import SERVICES
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from deploy.tests.stack.secret_search import (
    in_logs,
    in_tables,
    in_texts,
    listening,
    names_found,
)
from deploy.tests.stack.tenancy.cast import Caller
from deploy.tests.stack.tenancy.requests import path_of
from deploy.tests.stack.tenancy.scene import Scene
from deploy.tests.stack.test_foreign_ids import NEVER
from deploy.tests.stack.test_tenants import ROWS, Row

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

DECLINED_CARD = "4000000000000341"
GOOD_CARD = "4242424242424242"
# The card form's token is what a charge is made with, again after a crash: it is in columns of a
# payment that are marked secret, and in what the card gateway itself reported of the charge.
# Without our key there it is worth nothing.
KEPT_ON_PURPOSE = {
    f"payments.{table}: ['card token']" for table in ("payment_transactions", "webhook_events")
}
# What ends the session that tests, whatever is sent with it.
ENDING = {
    "DELETE /api/auth/sessions",
    "POST /api/auth/logout",
    "PUT /api/auth/password",
    "DELETE /api/auth/sessions/{session_id}",
}


@dataclass
class Canaries:
    """Secrets by what they are, and every answer that came while they were sent."""

    secrets: dict[str, str] = field(
        default_factory=lambda: {"card": GOOD_CARD, "declined card": DECLINED_CARD}
    )
    answers: list[str] = field(default_factory=list)

    def new(self, name: str) -> str:
        """A new secret, as a password or a token may look."""
        return self.secrets.setdefault(name, f"canary{secrets.token_hex(12)}")

    async def send(
        self, caller: Caller, method: str, path: str, expect: int | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request; its answer is kept, without the tokens it may give."""
        answer = await caller.send(method, path, **options)
        assert answer.status_code < 500, answer.text
        assert expect in (None, answer.status_code), answer.text
        if answer.status_code >= 400:
            self.answers.append(f"{method} {path} {answer.headers} {answer.text}")
        elif "access_token" not in answer.text:  # without Link: it repeats the caller's own query
            self.answers.append(f"{method} {path} {answer.text}")
        return answer

    async def sign_in(self, caller: Caller, name: str) -> dict[str, str]:
        """Sign in; the tokens are secrets from now on."""
        credentials = {"email": caller.email, "password": caller.password}
        answer = await self.send(caller, "POST", "/api/auth/login", 200, json=credentials)
        tokens: dict[str, str] = answer.json()
        caller.token = tokens["access_token"]
        self.secrets[f"{name}'s access token"] = tokens["access_token"]
        self.secrets[f"{name}'s refresh token"] = tokens["refresh_token"]
        device = answer.cookies["carnet_device"]
        self.secrets[f"{name}'s device"] = device
        return tokens


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


def _person(scene: Scene, canaries: Canaries, name: str) -> Caller:
    email = f"{unique(name)}@example.com"
    return Caller(
        api=scene.cast.owner.api,
        name=name,
        email=email,
        password=canaries.new(f"{name}'s password"),
    )


def _new(person: Caller, **more: Any) -> dict[str, Any]:
    return {"email": person.email, "name": "Canary", "password": person.password, **more}


async def _passwords(scene: Scene, canaries: Canaries) -> None:
    """Every way in which a password is given, wrong ones too."""
    send, cast = canaries.send, scene.cast
    registered, member, account, founder = (
        _person(scene, canaries, name) for name in ("registered", "member", "account", "founder")
    )
    key = {"Idempotency-Key": unique("canary")}
    await cast.anonymous.api.post("/api/auth/register", json=_new(registered), headers=key)
    await send(cast.owner, "POST", f"{scene.here}/users", 201, json=_new(member, role="staff"))
    await send(cast.admin, "POST", "/api/admin/users", 201, json=_new(account, role="client"))
    founding = {
        "name": unique("Canary"),
        "owner_email": founder.email,
        "owner_name": "Founder",
        "owner_password": founder.password,
    }
    await send(cast.admin, "POST", "/api/admin/organizations", 201, json=founding)
    await canaries.sign_in(founder, "founder")
    tokens = await canaries.sign_in(member, "member")
    await _change_passwords(scene, canaries, member)
    refresh = {"refresh_token": tokens["refresh_token"]}
    renewed = (await send(member, "POST", "/api/auth/refresh", 200, json=refresh)).json()
    canaries.secrets["renewed refresh token"] = renewed["refresh_token"]
    repeated = (await send(member, "POST", "/api/auth/refresh", 200, json=refresh)).json()
    assert repeated["refresh_token"] == renewed["refresh_token"]
    next_refresh = {"refresh_token": renewed["refresh_token"]}
    last = (await send(member, "POST", "/api/auth/refresh", 200, json=next_refresh)).json()
    canaries.secrets["last refresh token"] = last["refresh_token"]
    await send(member, "POST", "/api/auth/refresh", 401, json=refresh)
    await _wrong_passwords(scene, canaries, member)


async def _change_passwords(scene: Scene, canaries: Canaries, member: Caller) -> None:
    own = {"current_password": member.password, "new_password": canaries.new("own new password")}
    wrong = {"current_password": canaries.new("wrong present one"), "new_password": "x" * 12}
    await canaries.send(member, "PUT", "/api/auth/password", 403, json=wrong)
    await canaries.send(member, "PUT", "/api/auth/password", 200, json=own)
    member.password = own["new_password"]


async def _wrong_passwords(scene: Scene, canaries: Canaries, member: Caller) -> None:
    send, nobody = canaries.send, scene.cast.anonymous
    login = "/api/auth/login"
    for email in (member.email, f"{unique('nobody')}@example.com"):
        wrong = {"email": email, "password": canaries.new(f"guess at {email[:6]}")}
        await send(nobody, "POST", login, 401, json=wrong)
        form = {"username": email, "password": canaries.new(f"form guess at {email[:6]}")}
        await send(nobody, "POST", "/api/auth/token", 401, data=form)
    broken = f'{{"email": "{member.email}", "password": "{canaries.new("broken JSON")}"'
    await send(nobody, "POST", login, 415, content=broken)
    typed = {"Content-Type": "application/json"}
    await send(nobody, "POST", login, 400, content=broken, headers=typed)
    listed = {"email": member.email, "password": [canaries.new("in a list")]}
    await send(nobody, "POST", login, 422, json=listed)
    swapped = {"email": member.email, "pasword": canaries.new("misspelt field")}
    await send(nobody, "POST", login, 422, json=swapped)
    long = _new(_person(scene, canaries, "long"), role="client")
    long["password"] = canaries.new("too long") + "x" * 200
    await send(scene.cast.owner, "POST", f"{scene.here}/users", 422, json=long)
    path = f"/api/admin/users/{scene.standing['user_id']}/password"
    short = {"password": "short", "again": canaries.new("unknown field")}
    await send(scene.cast.admin, "PUT", path, 422, json=short)


async def _second_factor(scene: Scene, canaries: Canaries) -> None:
    """The secret of an authenticator app, recovery codes, and the token between the two steps."""
    send, nobody = canaries.send, scene.cast.anonymous
    person = _person(scene, canaries, "careful")
    await send(
        scene.cast.owner, "POST", f"{scene.here}/users", 201, json=_new(person, role="staff")
    )
    await canaries.sign_in(person, "careful")
    # Not by `canaries.send`, which stores the answers: these are the only ones with the secrets.
    setup = await person.send("POST", "/api/auth/second-factor")
    secret = canaries.secrets["secret of an app"] = setup.json()["secret"]
    code = {"code": TOTP(secret).now()}
    confirmed = await person.send("POST", "/api/auth/second-factor/confirm", json=code)
    used, unused = confirmed.json()["recovery_codes"][:2]
    canaries.secrets |= {"used recovery code": used, "unused recovery code": unused}
    credentials = {"email": person.email, "password": person.password}
    challenge = await nobody.send("POST", "/api/auth/login", json=credentials)
    token = canaries.secrets["token of the second step"] = challenge.json()["mfa_token"]
    second_step = "/api/auth/login/second-factor"
    wrong = {"mfa_token": token, "code": canaries.new("wrong code")}
    await send(nobody, "POST", second_step, 401, json=wrong)
    right = {"mfa_token": token, "code": used}
    signed_in = await nobody.send("POST", second_step, json=right)
    canaries.secrets["token of a sign-in in two steps"] = signed_in.json()["access_token"]
    await send(nobody, "POST", second_step, 401, json=right)


async def _links(scene: Scene, canaries: Canaries, mailbox: Mailbox) -> None:
    """The links of messages, and the passwords that are set with them."""
    send, nobody = canaries.send, scene.cast.anonymous
    person = _person(scene, canaries, "linked")
    await nobody.call("POST", "/api/auth/register", _new(person), expect=201)
    token = await mailbox.link_token(person.email, "/account/address")
    canaries.secrets["confirmation token"] = token
    await send(nobody, "POST", "/api/auth/address/confirm", 200, json={"token": token})
    await send(nobody, "POST", "/api/auth/address/confirm", 410, json={"token": token})
    await send(nobody, "POST", "/api/auth/password-reset", 202, json={"email": person.email})
    token = await mailbox.link_token(person.email, "/account/password")
    canaries.secrets["reset token"] = token
    invited = _person(scene, canaries, "invited")
    body = {"email": invited.email, "role": "client"}
    await send(scene.cast.owner, "POST", f"{scene.here}/users", 201, json=body)
    invitation = await mailbox.link_token(invited.email, "/account/invitation")
    canaries.secrets["invitation token"] = invitation
    accepted = {"token": invitation, "password": invited.password}
    await send(nobody, "POST", "/api/auth/invitation/accept", 200, json=accepted)
    await send(nobody, "POST", "/api/auth/links/renew", 410, json={"token": invitation})
    reset = {"token": token, "password": canaries.new("password by link")}
    await send(nobody, "POST", "/api/auth/password-reset/confirm", 200, json=reset)
    await send(nobody, "POST", "/api/auth/password-reset/confirm", 410, json=reset)


async def _cards(scene: Scene, canaries: Canaries, cards: CardGateway) -> None:
    """Card numbers where tokens belong, and a real token of a card that is declined."""
    send, client = canaries.send, scene.cast.client
    order = {
        "voucher_type_id": scene.standing["voucher_type_id"],
        "payment_method": "credit_card",
    }
    purchase = "/api/vouchers/purchase"
    for number in (GOOD_CARD, DECLINED_CARD, f"pm_{GOOD_CARD}"):
        await send(client, "POST", purchase, 422, json={**order, "payment_token": number})
    token = await cards.token_for_card(DECLINED_CARD)
    canaries.secrets["card token"] = token
    await send(client, "POST", purchase, 402, json={**order, "payment_token": token})
    unpaid = await scene.unpaid("credit_card")
    confirm = f"/api/payments/{unpaid['payment_id']}/confirm"
    await send(client, "POST", confirm, 422, json={"payment_token": GOOD_CARD})
    answer = await send(client, "POST", confirm, 200, json={"payment_token": token})
    assert answer.json()["status"] == "failed"
    event = {"id": "evt_canary", "object": "event", "card": {"number": GOOD_CARD}}
    answer = await send(scene.cast.anonymous, "POST", "/api/payments/webhooks/stripe", json=event)
    assert answer.status_code in (400, 422)


async def _feeds(scene: Scene, canaries: Canaries) -> None:
    """The address of a calendar feed: created twice under one key, read in each way, revoked."""
    client, reader = scene.cast.client, scene.cast.anonymous
    headers = {"Idempotency-Key": unique("canary")}
    feeds = "/api/calendar-feeds"
    made, again = [await client.send("POST", feeds, json={}, headers=headers) for _ in range(2)]
    assert (made.status_code, again.json()) == (201, {**made.json(), "address": None})
    path = urlsplit(made.json()["address"]).path
    canaries.secrets["token of a feed"] = path.rpartition("/")[2].removesuffix(".ics")
    # Not by `canaries.send`, which stores the path.
    statuses = [(await reader.send(method, path)).status_code for method in ("GET", "HEAD", "PUT")]
    assert statuses == [200, 200, 405]
    await client.send("DELETE", f"{feeds}/{made.json()['id']}")
    statuses = [(await reader.send(method, path)).status_code for method in ("GET", "HEAD")]
    assert statuses == [404, 404]


async def _everywhere(row: Row, scene: Scene, canaries: Canaries) -> None:
    """One operation with secrets in its request: anonymous, as owner, as administrator."""
    method, template = row.operation.split()
    body = {
        name: canaries.new(f"{name} everywhere")
        for name in ("password", "new_password", "owner_password", "refresh_token", "secret")
    } | {"payment_token": GOOD_CARD}
    query = {"access_token": canaries.new("in the query"), "card": GOOD_CARD}
    token = canaries.new("bogus token")
    nobody = Caller(api=scene.cast.owner.api, name="bogus", token=token)
    callers = [nobody]
    ids = scene.standing
    if method == "DELETE" or "approve" in template:
        ids = scene.standing | NEVER
    if row.operation not in ENDING:
        callers += [scene.cast.owner, scene.cast.admin]
    options: dict[str, Any] = {} if method == "GET" else {"json": body}
    for caller in callers:
        for params in (query, {}):  # no operation knows these, so with them it goes no further
            await canaries.send(caller, method, path_of(template, ids), params=params, **options)


async def _settled(scene: Scene, rows: Rows) -> dict[str, str]:
    """Change something last of all, and wait until that is in the audit trail too.

    Returns what was written: no secret, but the search must find it.
    """
    harmless = {"marker": unique("marker")}
    headers = {"X-Request-ID": harmless["marker"]}
    async with asyncio.timeout(90):
        for service in SERVICES:
            while await rows(f"SELECT 1 FROM {service}.outbox LIMIT 1"):
                await asyncio.sleep(0.2)
        await scene.cast.client.call("PUT", "/api/auth/me", {"name": harmless["marker"]})
        await scene.cast.anonymous.api.get("/health", headers=headers)
        while not any(place.startswith("audit.") for place in await in_tables(rows, harmless)):
            await asyncio.sleep(0.5)
    return harmless


async def test_secrets_leave_no_trace(
    scene: Scene,
    stack: Stack,
    rows: Rows,
    cards: CardGateway,
    mailbox: Mailbox,
    canaries: Canaries,
) -> None:
    await scene.cast.sign_in()
    for caller in scene.cast.everybody():
        assert caller.token
        canaries.secrets[f"{caller.name}'s token"] = caller.token
    for user, url in stack.system.broker_urls.items():
        canaries.secrets[f"{user}'s broker password"] = urlsplit(url).password or ""
    async with listening(stack) as listener:
        await _passwords(scene, canaries)
        await _second_factor(scene, canaries)
        await _links(scene, canaries, mailbox)
        await _cards(scene, canaries, cards)
        await _feeds(scene, canaries)
        for row in ROWS:
            await _everywhere(row, scene, canaries)
        harmless = await _settled(scene, rows)
        events = await listener.collect()
    sent = canaries.secrets
    found = await in_tables(rows, sent)
    assert [place for place in found if place not in KEPT_ON_PURPOSE] == []
    assert in_texts(canaries.answers, sent) == []
    assert in_texts(events, sent) == []
    assert in_logs(stack.settings.data, sent) == []
    # The searches find what is there.
    assert in_texts(events, harmless)
    assert any(place.startswith("identity.users") for place in await in_tables(rows, harmless))
    assert any(place.startswith("gateway") for place in in_logs(stack.settings.data, harmless))
    assert names_found(f"\\x{harmless['marker'].encode().hex()}", harmless) == ["marker"]
