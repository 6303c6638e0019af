"""Addresses are confirmed and changed by links, read from a real SMTP server."""

import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from services.identity.app import create_app
from services.identity.service import notices
from services.identity.settings import Settings
from services.identity.tests.conftest import (
    MINE,
    PASSWORD,
    Organizations,
    People,
    Person,
    send_all,
    text_of,
    token_in,
    user_id_of,
)
from shared.mail.sender import MailSender
from shared.testing import Database, client_of
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

NEW = {
    "email": "ann@example.org",
    "name": "Ann",
    "password": "another good one",
    "organization_slug": "mine",
}
CREDENTIALS = {"email": NEW["email"], "password": NEW["password"]}
REGISTER = "/api/auth/register"
CONFIRM = "/api/auth/address/confirm"


@pytest.fixture
async def client(
    app: FastAPI, mail_settings: Settings, organizations: Organizations
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an installation that has an SMTP server; `app` has stored the signing key."""
    transports = {"organizations": httpx.MockTransport(organizations)}
    async with client_of(create_app(mail_settings, transports=transports)) as client:
        yield client


async def confirm(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post(CONFIRM, json={"token": token})


def subjects(smtp: ReceivingServer, email: str) -> list[str]:
    return [str(message["Subject"]) for message in smtp.to(email)]


async def test_a_client_registers_confirms_is_approved_and_signs_in(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    transactions: Transactions,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    answer = await client.post(REGISTER, json=NEW)
    assert (answer.status_code, answer.json()["awaits_confirmation"]) == (201, True)
    await notices.notify_managers(transactions)
    await send_all(sender)
    assert smtp.recipients == [NEW["email"]], "nobody is bothered before the address is confirmed"
    token = token_in(smtp.messages[0])
    assert token not in str(await database.events())
    assert (await client.post("/api/auth/login", json=CREDENTIALS)).status_code == 401
    assert (await confirm(client, token)).status_code == 200
    answer = await confirm(client, token)
    assert (answer.status_code, answer.json()["code"]) == (410, "link_used")
    answer = await client.post("/api/auth/login", json=CREDENTIALS)
    assert (answer.status_code, answer.json()["code"]) == (403, "awaiting_approval")
    await notices.notify_managers(transactions)
    user_id = await user_id_of(database, NEW["email"])
    path = f"/api/organizations/{MINE}/users/{user_id}"
    shown = (await client.get(path, headers=owner.headers)).json()
    assert (shown["awaits_confirmation"], shown["email_confirmed_at"] is None) == (False, False)
    assert (await client.post(f"{path}/approve", headers=owner.headers)).status_code == 200
    assert (await client.post("/api/auth/login", json=CREDENTIALS)).status_code == 200
    await send_all(sender)
    assert subjects(smtp, owner.email) == ["1 registration waits for your approval"]
    assert subjects(smtp, NEW["email"]) == [
        "Confirm your e-mail address",
        "Your registration was approved",
    ]
    confirmed = [e["data"] for e in await database.events() if e["data"]["action"] == "UPDATE"]
    assert [event["actor"]["user_id"] for event in confirmed] == [user_id]


async def test_who_was_approved_first_confirms_before_the_first_sign_in(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    await client.post(REGISTER, json=NEW)
    user_id = await user_id_of(database, NEW["email"])
    path = f"/api/organizations/{MINE}/users/{user_id}/approve"
    assert (await client.post(path, headers=owner.headers)).status_code == 200
    assert (await client.post("/api/auth/login", json=CREDENTIALS)).status_code == 401
    reasons = [e["data"]["new_values"].get("reason") for e in await database.events()]
    assert reasons[-1] == "address_not_confirmed"
    await send_all(sender)
    link, approved = smtp.to(NEW["email"])
    assert "Please open the link" in text_of(approved)
    assert (await confirm(client, token_in(link))).status_code == 200
    assert (await client.post("/api/auth/login", json=CREDENTIALS)).status_code == 200


async def test_a_registration_does_not_reveal_an_account(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    person = await people.add("client", MINE)
    free, taken = [
        await client.post(REGISTER, json={**NEW, "email": email})
        for email in (NEW["email"], person.email)
    ]
    assert (free.status_code, taken.status_code) == (201, 201)
    assert {**free.json(), "email": ""} == {**taken.json(), "email": ""}
    assert free.headers.keys() == taken.headers.keys()
    # The password of the registration opens neither account.
    for email in (NEW["email"], person.email):
        credentials = {"email": email, "password": NEW["password"]}
        answer = await client.post("/api/auth/login", json=credentials)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    await send_all(sender)
    [message] = smtp.to(person.email)
    assert message["Subject"] == "You have an account already"
    body = {"token": token_in(message), "password": "violet kettle drummer"}
    assert (await client.post("/api/auth/password-reset/confirm", json=body)).is_success
    assert len(await database.rows("SELECT * FROM users")) == 2


async def test_a_stranger_who_registers_first_gains_nothing(
    client: httpx.AsyncClient, database: Database, sender: MailSender, smtp: ReceivingServer
) -> None:
    await client.post(REGISTER, json={**NEW, "password": "password of a stranger"})
    await client.post(REGISTER, json=NEW)
    await send_all(sender)
    body = {"token": token_in(smtp.to(NEW["email"])[-1]), "password": NEW["password"]}
    assert (await client.post("/api/auth/password-reset/confirm", json=body)).is_success
    [row] = await database.rows("SELECT awaits_confirmation, email_confirmed_at FROM users")
    assert (row["awaits_confirmation"], row["email_confirmed_at"] is None) == (False, False)
    credentials = {**CREDENTIALS, "password": "password of a stranger"}
    assert (await client.post("/api/auth/login", json=credentials)).status_code == 401
    answer = await client.post("/api/auth/login", json=CREDENTIALS)
    assert answer.json()["code"] == "awaiting_approval"


async def test_an_installation_may_reveal_accounts(
    app: FastAPI, mail_settings: Settings, database: Database
) -> None:
    revealing = mail_settings.model_copy(update={"reveal_existing": True})
    body = {name: value for name, value in NEW.items() if name != "organization_slug"}
    async with client_of(create_app(revealing)) as client:
        first = await client.post(REGISTER, json=body)
        assert first.json()["id"] == await user_id_of(database, NEW["email"])
        second = await client.post(REGISTER, json=body)
        assert (second.status_code, second.json()["code"]) == (409, "email_taken")


async def test_the_time_of_a_registration_does_not_reveal_an_account(
    app: FastAPI, mail_settings: Settings, people: People
) -> None:
    unit = 0.5
    slowed = mail_settings.model_copy(update={"failed_sign_in_seconds": unit})
    durations: dict[str, list[float]] = {"free": [], "taken": []}
    async with client_of(create_app(slowed)) as client:
        for number in range(3):
            person = await people.add("client")
            emails = {"free": f"free-{number}@example.org", "taken": person.email}
            for name, email in emails.items():
                body = {"email": email, "name": "Ann", "password": NEW["password"]}
                started_at = time.monotonic()
                assert (await client.post(REGISTER, json=body)).status_code == 201
                durations[name].append(time.monotonic() - started_at)
    assert min(durations["free"] + durations["taken"]) >= unit
    medians = [statistics.median(values) / unit for values in durations.values()]
    assert round(medians[0]) == round(medians[1])


async def change(
    client: httpx.AsyncClient, person: Person, email: str, **changes: Any
) -> httpx.Response:
    body = {"email": email, "current_password": PASSWORD, **changes}
    return await client.put("/api/auth/address", json=body, headers=person.headers)


async def test_a_new_address_counts_when_it_is_confirmed(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    person = await people.add("client", MINE)
    assert (await change(client, person, "new@example.org")).status_code == 202
    me = (await client.get("/api/auth/me", headers=person.headers)).json()
    assert me["email"] == person.email, "the old one stays"
    await send_all(sender)
    [message] = smtp.to("new@example.org")
    assert "replace the present one" in text_of(message)
    assert (await confirm(client, token_in(message))).status_code == 200
    me = (await client.get("/api/auth/me", headers=person.headers)).json()
    assert (me["email"], me["email_confirmed_at"] is None) == ("new@example.org", False)
    await send_all(sender)
    [notice] = smtp.to(person.email)
    assert notice["Subject"] == "Your e-mail address was changed"
    assert "new@example.org" not in notice.as_string()
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.updated.v1"
    assert event["data"]["new_values"]["email"] == "new@example.org"


async def test_a_change_needs_the_password_and_does_not_reveal_accounts(
    client: httpx.AsyncClient, people: People, sender: MailSender, smtp: ReceivingServer
) -> None:
    person, other = await people.add("client"), await people.add("client")
    answer = await change(client, person, "new@example.org", current_password="wrong")
    assert (answer.status_code, answer.json()["code"]) == (403, "present_password_wrong")
    free = await change(client, person, "new@example.org")
    taken = await change(client, person, other.email.upper())
    assert (free.status_code, free.content) == (taken.status_code, taken.content)
    await send_all(sender)
    assert smtp.recipients == ["new@example.org"]


async def test_an_address_that_was_taken_meanwhile_is_not_changed(
    client: httpx.AsyncClient, people: People, sender: MailSender, smtp: ReceivingServer
) -> None:
    person = await people.add("client")
    await change(client, person, "new@example.org")
    await people.add("client", email="NEW@example.org")
    await send_all(sender)
    answer = await confirm(client, token_in(smtp.to("new@example.org")[0]))
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
    me = (await client.get("/api/auth/me", headers=person.headers)).json()
    assert me["email"] == person.email


async def test_staff_change_an_address_at_once_and_both_addresses_get_a_message(
    client: httpx.AsyncClient,
    people: People,
    owner: Person,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    person = await people.add("client", MINE)
    await client.post("/api/auth/password-reset", json={"email": person.email})
    await send_all(sender)
    reset_token = token_in(smtp.to(person.email)[0])
    path = f"/api/organizations/{MINE}/users/{person.id}"
    answer = await client.put(path, json={"email": "new@example.org"}, headers=owner.headers)
    assert (answer.json()["email"], answer.json()["email_confirmed_at"]) == (
        "new@example.org",
        None,
    )
    body = {"token": reset_token, "password": "violet kettle drummer"}
    answer = await client.post("/api/auth/password-reset/confirm", json=body)
    assert (answer.status_code, answer.json()["code"]) == (410, "link_withdrawn")
    await send_all(sender)
    assert "your organization has given" in text_of(smtp.to(person.email)[-1])
    assert (await confirm(client, token_in(smtp.to("new@example.org")[0]))).status_code == 200


async def test_of_parallel_confirmations_one_wins(
    client: httpx.AsyncClient, sender: MailSender, smtp: ReceivingServer
) -> None:
    await client.post(REGISTER, json=NEW)
    await send_all(sender)
    token = token_in(smtp.to(NEW["email"])[0])
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await confirm(client, token)).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(one)
    assert sorted(statuses) == [200, *[410] * 5]
