"""Invitations: from the address to the first sign-in, read from a real SMTP server."""

import asyncio
from typing import Any

import httpx
import pytest

from services.identity.service.attempt_limits import LINKS_PER_ACCOUNT
from services.identity.tests.conftest import (
    MINE,
    People,
    Person,
    send_all,
    text_of,
    token_in,
)
from shared.mail.sender import MailSender
from shared.testing import Database
from shared.testing_mail import ReceivingServer

pytestmark = pytest.mark.anyio

USERS = f"/api/organizations/{MINE}/users"
ACCEPT = "/api/auth/invitation/accept"
RENEW = "/api/auth/links/renew"
EMAIL = "tamara@example.org"
PASSWORD = "violet kettle drummer"


async def invite(
    client: httpx.AsyncClient, owner: Person, email: str = EMAIL, **more: Any
) -> dict[str, Any]:
    body = {"email": email, "role": "therapist", **more}
    answer = await client.post(USERS, json=body, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def tokens(sender: MailSender, smtp: ReceivingServer, email: str = EMAIL) -> list[str]:
    await send_all(sender)
    return [token_in(message) for message in smtp.to(email)]


async def accept(client: httpx.AsyncClient, token: str, **more: Any) -> httpx.Response:
    return await client.post(ACCEPT, json={"token": token, "password": PASSWORD, **more})


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def listed(client: httpx.AsyncClient, owner: Person, **filters: str) -> list[str]:
    answer = await client.get(USERS, params=filters, headers=owner.headers)
    return [user["email"] for user in answer.json()]


async def test_a_therapist_is_invited_by_address_alone(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    user = await invite(client, owner)
    assert (user["name"], user["is_active"], user["approved_by"]) == ("tamara", False, owner.id)
    assert await listed(client, owner, invited="true") == [EMAIL]
    assert await listed(client, owner, is_active="true") == [owner.email]
    assert await listed(client, owner, pending="true") == []
    credentials = {"email": EMAIL, "password": "!"}
    assert (await client.post("/api/auth/login", json=credentials)).status_code == 401
    [token] = await tokens(sender, smtp)
    [message] = smtp.to(EMAIL)
    assert message["Subject"] == "Invitation from Mine"
    assert "Mine has created an account for you." in " ".join(text_of(message).split())
    answer = await accept(client, token, name="Tamara Therapist", locale="de")
    assert answer.json() == {"message": "Invitation accepted successfully"}
    credentials = {"email": EMAIL, "password": PASSWORD}
    signed_in = await client.post("/api/auth/login", json=credentials)
    headers = {"Authorization": f"Bearer {signed_in.json()['access_token']}"}
    me = (await client.get("/api/auth/me", headers=headers)).json()
    assert (me["name"], me["locale"], me["role"]) == ("Tamara Therapist", "de", "therapist")
    assert None not in (me["email_confirmed_at"], me["invitation_accepted_at"])
    assert me["is_active"]
    assert await listed(client, owner, invited="true") == []
    assert await listed(client, owner, invited="false") == [EMAIL, owner.email]
    accepted = [e["data"] for e in await database.events() if e["data"]["action"] == "UPDATE"]
    assert [event["actor"]["user_id"] for event in accepted] == [user["id"]]
    assert token not in str(await database.events())


async def test_an_administrator_invites_the_owner_of_a_new_organization(
    client: httpx.AsyncClient, admin: Person, sender: MailSender, smtp: ReceivingServer
) -> None:
    body = {
        "email": EMAIL,
        "name": "Tamara",
        "role": "organization_owner",
        "organization_name": "Praxis",
    }
    answer = await client.post("/api/admin/users", json=body, headers=admin.headers)
    assert (answer.status_code, answer.json()["requested_organization"]) == (201, "Praxis")
    [token] = await tokens(sender, smtp)
    assert smtp.to(EMAIL)[0]["Subject"] == "Invitation to Carnet"
    assert (await accept(client, token)).status_code == 200


async def test_an_invitation_is_sent_again_and_the_newest_link_counts(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    user = await invite(client, owner)
    path = f"{USERS}/{user['id']}/invitation"
    again = await client.post(path, headers=owner.headers)
    assert again.status_code == 200
    assert again.json()["invited_at"] > user["invited_at"]
    assert (await database.events())[-1]["type"] == "identity.user.invited.v1"
    older, newer = await tokens(sender, smtp)
    assert code_of(await accept(client, older)) == (410, "link_replaced")
    assert (await accept(client, newer)).status_code == 200
    assert code_of(await accept(client, newer)) == (410, "link_used")
    assert code_of(await client.post(path, headers=owner.headers)) == (409, "not_invited")
    assert code_of(await client.delete(path, headers=owner.headers)) == (409, "not_invited")


@pytest.mark.parametrize("path", ["/invitation", ""], ids=["invitation", "user"])
async def test_a_withdrawn_invitation_leaves_nobody(
    client: httpx.AsyncClient, owner: Person, sender: MailSender, smtp: ReceivingServer, path: str
) -> None:
    user = await invite(client, owner)
    [token] = await tokens(sender, smtp)
    answer = await client.delete(f"{USERS}/{user['id']}{path}", headers=owner.headers)
    assert answer.status_code == 200
    assert code_of(await accept(client, token)) == (404, "link_not_found")
    assert await listed(client, owner) == [owner.email]
    await send_all(sender)
    assert len(smtp.to(EMAIL)) == 1, "nobody is notified of it"
    await invite(client, owner)


async def test_an_expired_invitation_states_it_and_is_renewed(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    await invite(client, owner)
    [expired] = await tokens(sender, smtp)
    async with database.admin() as admin:
        await admin.execute("UPDATE account_links SET expires_at = now()")
    assert code_of(await accept(client, expired)) == (410, "link_expired")
    assert (await client.post(RENEW, json={"token": expired})).status_code == 202
    new = (await tokens(sender, smtp))[-1]
    assert (await accept(client, new)).status_code == 200
    assert code_of(await client.post(RENEW, json={"token": expired})) == (410, "link_replaced")
    assert code_of(await client.post(RENEW, json={"token": new})) == (410, "link_used")
    assert code_of(await client.post(RENEW, json={"token": "A" * 43})) == (404, "link_not_found")


async def test_a_renewed_link_has_the_purpose_of_the_first(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    person = await people.add("client", MINE)
    await client.post("/api/auth/password-reset", json={"email": person.email})
    [expired] = await tokens(sender, smtp, person.email)
    async with database.admin() as admin:
        await admin.execute("UPDATE account_links SET expires_at = now()")
    assert (await client.post(RENEW, json={"token": expired})).status_code == 202
    body = {"token": (await tokens(sender, smtp, person.email))[-1], "password": PASSWORD}
    assert (await client.post("/api/auth/password-reset/confirm", json=body)).status_code == 200


async def test_invitations_are_not_sent_without_end(
    client: httpx.AsyncClient, owner: Person
) -> None:
    user = await invite(client, owner)
    path = f"{USERS}/{user['id']}/invitation"
    for _ in range(LINKS_PER_ACCOUNT):
        assert (await client.post(path, headers=owner.headers)).status_code == 200
    assert code_of(await client.post(path, headers=owner.headers)) == (429, "too_many_attempts")


async def test_who_forgot_the_invitation_gets_it_again(
    client: httpx.AsyncClient, owner: Person, sender: MailSender, smtp: ReceivingServer
) -> None:
    await invite(client, owner)
    assert (await client.post("/api/auth/password-reset", json={"email": EMAIL})).is_success
    _, again = await tokens(sender, smtp)
    assert (await accept(client, again)).status_code == 200


async def test_a_corrected_address_gets_the_invitation(
    client: httpx.AsyncClient, owner: Person, sender: MailSender, smtp: ReceivingServer
) -> None:
    user = await invite(client, owner, "tamra@example.org")
    [wrong] = await tokens(sender, smtp, "tamra@example.org")
    path = f"{USERS}/{user['id']}"
    assert (await client.put(path, json={"email": EMAIL}, headers=owner.headers)).is_success
    [token] = await tokens(sender, smtp)
    assert code_of(await accept(client, wrong)) == (410, "link_replaced")
    assert (await accept(client, token)).status_code == 200


async def test_an_invited_user_is_not_activated_otherwise(
    client: httpx.AsyncClient, owner: Person, admin: Person
) -> None:
    user = await invite(client, owner)
    path = f"{USERS}/{user['id']}"
    answer = await client.put(path, json={"is_active": True}, headers=owner.headers)
    assert code_of(answer) == (409, "invitation_pending")
    path = f"/api/admin/users/{user['id']}/password"
    answer = await client.put(path, json={"password": PASSWORD}, headers=admin.headers)
    assert code_of(answer) == (409, "invitation_pending")


async def test_an_invited_owner_is_no_owner_yet(
    client: httpx.AsyncClient, owner: Person, admin: Person
) -> None:
    await invite(client, owner, role="organization_owner")
    path = f"/api/admin/users/{owner.id}"
    answer = await client.put(path, json={"is_active": False}, headers=admin.headers)
    assert code_of(answer) == (409, "last_owner")


async def test_of_parallel_acceptances_one_wins(
    client: httpx.AsyncClient, owner: Person, sender: MailSender, smtp: ReceivingServer
) -> None:
    await invite(client, owner)
    [token] = await tokens(sender, smtp)
    answers = await asyncio.gather(*(accept(client, token) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[410] * 5]
