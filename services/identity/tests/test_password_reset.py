"""Forgotten passwords: from the request to the sign-in, with messages from a real SMTP server."""

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.identity.app import create_app
from services.identity.service.attempt_limits import (
    LINK_REQUESTS_PER_ACCOUNT_AND_ADDRESS,
    LINKS_PER_ACCOUNT,
)
from services.identity.service.cleanup import delete_expired
from services.identity.settings import Settings
from services.identity.tests.conftest import (
    MINE,
    PASSWORD,
    People,
    Person,
    send_all,
    token_in,
)
from shared.mail.sender import MailSender
from shared.testing import Database, client_of
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

NEW_PASSWORD = "another good one"
REQUEST = "/api/auth/password-reset"
CONFIRM = "/api/auth/password-reset/confirm"


@dataclass
class Mailbox:
    """Requests links and reads them."""

    client: httpx.AsyncClient
    sender: MailSender
    smtp: ReceivingServer

    async def request(self, email: str, address: str = "203.0.113.9") -> httpx.Response:
        headers = {"X-Client-Address": address}
        return await self.client.post(REQUEST, json={"email": email}, headers=headers)

    async def tokens(self, email: str) -> list[str]:
        await send_all(self.sender)
        return [token_in(m) for m in self.smtp.to(email) if "new password" in m["Subject"]]

    async def token(self, email: str) -> str:
        assert (await self.request(email)).status_code == 202
        return (await self.tokens(email))[-1]

    async def confirm(self, token: str, password: str = NEW_PASSWORD) -> httpx.Response:
        return await self.client.post(CONFIRM, json={"token": token, "password": password})


@pytest.fixture
def mailbox(client: httpx.AsyncClient, sender: MailSender, smtp: ReceivingServer) -> Mailbox:
    return Mailbox(client, sender, smtp)


async def sign_in(client: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    return await client.post("/api/auth/login", json={"email": email, "password": password})


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_forgotten_password_is_replaced(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, database: Database
) -> None:
    person = await people.add("client", MINE)
    earlier = (await sign_in(client, person.email, PASSWORD)).json()
    assert (await mailbox.request(person.email.upper())).status_code == 202
    [token] = await mailbox.tokens(person.email)
    assert (await mailbox.confirm(token)).json() == {"message": "Password updated successfully"}
    assert (await sign_in(client, person.email, PASSWORD)).status_code == 401
    assert (await sign_in(client, person.email, NEW_PASSWORD)).status_code == 200
    body = {"refresh_token": earlier["refresh_token"]}
    assert (await client.post("/api/auth/refresh", json=body)).status_code == 401
    await send_all(mailbox.sender)
    assert [m["Subject"] for m in mailbox.smtp.to(person.email)] == [
        "Set a new password",
        "Your password was changed",
    ]
    events = {event["type"]: event["data"] for event in await database.events()}
    assert events["identity.user.password_reset_requested.v1"]["entity_id"] == person.id
    changed = events["identity.user.password_changed.v1"]
    assert changed["actor"]["user_id"] == person.id
    assert changed["new_values"]["reason"] == "reset"
    assert changed["new_values"]["tokens_not_before"] > 0


async def test_a_link_is_used_once_and_the_newest_alone_is_valid(
    people: People, mailbox: Mailbox
) -> None:
    person = await people.add("client")
    older = await mailbox.token(person.email)
    newer = await mailbox.token(person.email)
    assert code_of(await mailbox.confirm(older)) == (410, "link_replaced")
    assert (await mailbox.confirm(newer)).status_code == 200
    assert code_of(await mailbox.confirm(newer)) == (410, "link_used")
    assert code_of(await mailbox.confirm("A" * 43)) == (404, "link_not_found")


async def test_a_link_expires_and_is_deleted_later(
    people: People, mailbox: Mailbox, database: Database, transactions: Transactions
) -> None:
    person = await people.add("client")
    token = await mailbox.token(person.email)
    async with database.admin() as admin:
        await admin.execute("UPDATE account_links SET expires_at = now()")
    assert code_of(await mailbox.confirm(token)) == (410, "link_expired")
    async with database.admin() as admin:
        await admin.execute("UPDATE account_links SET expires_at = now() - interval '31 days'")
    await delete_expired(transactions)
    assert code_of(await mailbox.confirm(token)) == (404, "link_not_found")


@pytest.mark.parametrize("by_administrator", [True, False], ids=["administrator", "user"])
async def test_a_new_password_ends_an_open_link(
    client: httpx.AsyncClient,
    people: People,
    admin: Person,
    mailbox: Mailbox,
    by_administrator: bool,
) -> None:
    person = await people.add("client")
    token = await mailbox.token(person.email)
    path, body, caller = "/api/auth/password", {"new_password": NEW_PASSWORD}, person
    if by_administrator:
        path, body, caller = (
            f"/api/admin/users/{person.id}/password",
            {"password": NEW_PASSWORD},
            admin,
        )
    else:
        body["current_password"] = PASSWORD
    assert (await client.put(path, json=body, headers=caller.headers)).is_success
    assert code_of(await mailbox.confirm(token)) == (410, "link_withdrawn")


async def test_a_weak_password_does_not_use_the_link_up(people: People, mailbox: Mailbox) -> None:
    person = await people.add("client")
    token = await mailbox.token(person.email)
    answer = await mailbox.confirm(token, "password12")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "password")
    assert (await mailbox.confirm(token)).status_code == 200


async def test_of_parallel_uses_of_one_link_one_wins(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    person = await people.add("client")
    token = await mailbox.token(person.email)
    passwords = [f"violet kettle drummer {number}" for number in range(6)]
    answers = await asyncio.gather(*(mailbox.confirm(token, each) for each in passwords))
    assert sorted(answer.status_code for answer in answers) == [200, *[410] * 5]
    [winner] = [p for p, a in zip(passwords, answers, strict=True) if a.is_success]
    for password in passwords:
        status = (await sign_in(client, person.email, password)).status_code
        assert status == (200 if password == winner else 401)


async def test_the_answer_does_not_reveal_whether_there_is_an_account(
    people: People, mailbox: Mailbox
) -> None:
    person = await people.add("client")
    known = await mailbox.request(person.email)
    unknown = await mailbox.request("nobody@example.org")
    assert (known.status_code, unknown.status_code) == (202, 202)
    assert known.content == unknown.content
    assert known.headers.keys() == unknown.headers.keys()
    await send_all(mailbox.sender)
    assert mailbox.smtp.recipients == [person.email]


async def test_the_time_does_not_reveal_whether_there_is_an_account(
    settings: Settings, people: People, app: Any
) -> None:
    unit = 0.2
    slowed = create_app(settings.model_copy(update={"failed_sign_in_seconds": unit}))
    durations: dict[str, list[float]] = {"known": [], "unknown": []}
    async with client_of(slowed) as client:
        for number in range(4):
            person = await people.add("client")
            emails = {"known": person.email, "unknown": f"nobody-{number}@example.org"}
            for name, email in emails.items():
                started_at = time.monotonic()
                answer = await client.post(REQUEST, json={"email": email})
                durations[name].append(time.monotonic() - started_at)
                assert answer.status_code == 202
    assert min(durations["known"] + durations["unknown"]) >= unit
    medians = [statistics.median(values) / unit for values in durations.values()]
    assert round(medians[0]) == round(medians[1])


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_requests_for_one_account_from_one_address_are_limited(
    people: People, mailbox: Mailbox, known: bool
) -> None:
    email = (await people.add("client")).email if known else "nobody@example.org"
    for _ in range(LINK_REQUESTS_PER_ACCOUNT_AND_ADDRESS):
        assert (await mailbox.request(email)).status_code == 202
    answer = await mailbox.request(email.upper())
    assert code_of(answer) == (429, "too_many_attempts")
    assert int(answer.headers["retry-after"]) > 3000
    assert (await mailbox.request(email, "198.51.100.7")).status_code == 202


async def test_a_flood_from_everywhere_sends_few_messages(people: People, mailbox: Mailbox) -> None:
    person = await people.add("client")
    for number in range(LINKS_PER_ACCOUNT + 3):
        answer = await mailbox.request(person.email, f"198.51.100.{number}")
        assert answer.status_code == 202
    tokens = await mailbox.tokens(person.email)
    assert len(tokens) == LINKS_PER_ACCOUNT
    assert (await mailbox.confirm(tokens[-1])).status_code == 200, "the last link stays valid"


async def test_a_deleted_user_has_no_link(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, admin: Person, database: Database
) -> None:
    person = await people.add("client")
    token = await mailbox.token(person.email)
    answer = await client.delete(f"/api/admin/users/{person.id}", headers=admin.headers)
    assert answer.status_code == 200
    assert code_of(await mailbox.confirm(token)) == (404, "link_not_found")
    assert await database.rows("SELECT * FROM account_links") == []


async def test_the_token_is_in_no_table_event_or_log(
    people: People,
    mailbox: Mailbox,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    person = await people.add("client")
    assert (await mailbox.request(person.email)).status_code == 202
    tables = ("users", "account_links", "outgoing_mails", "outbox", "attempt_counts")
    waiting = str([await database.rows(f"SELECT * FROM {table}") for table in tables])
    [token] = await mailbox.tokens(person.email)
    assert (await mailbox.confirm(token)).is_success
    sent = str([await database.rows(f"SELECT * FROM {table}") for table in tables])
    logs = caplog.text + "".join(capsys.readouterr())
    for place in (waiting, sent, logs):
        assert token not in place
        assert NEW_PASSWORD not in place
