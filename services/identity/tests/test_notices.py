"""Messages about accounts, read from a real SMTP server."""

import httpx
import pytest

from services.identity import queries
from services.identity.service import notices
from services.identity.tests.conftest import (
    MINE,
    OTHER,
    PASSWORD,
    People,
    Person,
    send_all,
    user_id_of,
)
from shared.mail.sender import MailSender
from shared.testing import Database
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

NEW = {"email": "ann@example.org", "name": "Ann", "password": "another good one"}


async def register(client: httpx.AsyncClient, database: Database, email: str = NEW["email"]) -> int:
    body = {**NEW, "email": email, "organization_slug": "mine"}
    answer = await client.post("/api/auth/register", json=body)
    assert answer.status_code == 201
    return await user_id_of(database, email)


async def test_a_changed_password_is_reported(
    client: httpx.AsyncClient, owner: Person, sender: MailSender, smtp: ReceivingServer
) -> None:
    body = {"current_password": PASSWORD, "new_password": "canary another good one"}
    answer = await client.put("/api/auth/password", json=body, headers=owner.headers)
    assert answer.is_success, answer.text
    await send_all(sender)
    [message] = smtp.to(owner.email)
    assert message["Subject"] == "Your password was changed"
    assert "All your other sign-in sessions have ended." in message.as_string()
    assert "canary" not in message.as_string()


async def test_a_password_that_an_administrator_sets_is_reported(
    client: httpx.AsyncClient,
    admin: Person,
    owner: Person,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    answer = await client.put(
        f"/api/admin/users/{owner.id}/password",
        json={"password": "another good one"},
        headers=admin.headers,
    )
    assert answer.is_success, answer.text
    await send_all(sender)
    [message] = smtp.to(owner.email)
    assert "An administrator has set" in message.as_string()


async def test_an_approved_registration_is_reported(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    user_id = await register(client, database)
    path = f"/api/organizations/{MINE}/users/{user_id}/approve"
    assert (await client.post(path, headers=owner.headers)).is_success
    await send_all(sender)
    [message] = smtp.to(NEW["email"])
    assert message["Subject"] == "Your registration was approved"
    assert "https://carnet.example/" in message.as_string()


async def test_a_refused_registration_is_reported_and_erased(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    user_id = await register(client, database)
    path = f"/api/organizations/{MINE}/users/{user_id}"
    assert (await client.delete(path, headers=owner.headers)).is_success
    await send_all(sender)
    [message] = smtp.to(NEW["email"])
    assert message["Subject"] == "Your registration was not approved"
    [row] = await database.rows("SELECT user_id, content FROM outgoing_mails")
    assert (row["user_id"], row["content"]) == (None, None)


async def test_a_deleted_user_gets_no_message_and_leaves_none(
    client: httpx.AsyncClient,
    admin: Person,
    owner: Person,
    people: People,
    database: Database,
    transactions: Transactions,
) -> None:
    await people.add("organization_owner", MINE)
    async with transactions.system() as session:
        user = await queries.get_user(session, owner.id)
        await notices.notify_approved(session, user)
    answer = await client.delete(f"/api/admin/users/{owner.id}", headers=admin.headers)
    assert answer.is_success
    assert not await database.rows("SELECT 1 FROM outgoing_mails")


async def test_managers_get_one_message_an_hour_about_registrations(
    client: httpx.AsyncClient,
    people: People,
    owner: Person,
    database: Database,
    transactions: Transactions,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    manager = await people.add("staff", MINE, ("manage_users",))
    await people.add("staff", MINE, ("manage_vouchers",))
    await people.add("organization_owner", OTHER)
    await people.add("organization_owner", MINE, is_active=False)
    await register(client, database, "one@example.org")
    for _ in range(3):
        await notices.notify_managers(transactions)
    await register(client, database, "two@example.org")
    await notices.notify_managers(transactions)
    await send_all(sender)
    assert sorted(smtp.recipients) == sorted([owner.email, manager.email])
    assert smtp.messages[0]["Subject"] == "1 registration waits for your approval"
    async with database.admin() as connection:
        await connection.execute(
            "UPDATE outgoing_mails SET created_at = created_at - interval '61 minutes'"
        )
        await connection.execute("UPDATE users SET created_at = created_at - interval '30 minutes'")
    for _ in range(2):
        await notices.notify_managers(transactions)
    await send_all(sender)
    second = smtp.to(owner.email)[1:]
    assert [m["Subject"] for m in second] == ["2 registrations wait for your approval"]


async def test_administrators_are_notified_of_users_without_an_organization(
    client: httpx.AsyncClient,
    admin: Person,
    transactions: Transactions,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    assert (await client.post("/api/auth/register", json=NEW)).status_code == 201
    await notices.notify_managers(transactions)
    await send_all(sender)
    assert smtp.recipients == [admin.email]


async def test_while_the_server_is_down_the_api_works_and_nothing_is_lost(
    client: httpx.AsyncClient,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    await smtp.stop()
    user_id = await register(client, database)
    path = f"/api/organizations/{MINE}/users/{user_id}/approve"
    assert (await client.post(path, headers=owner.headers)).is_success
    assert await sender.run_once() == 0
    await smtp.start()
    await send_all(sender)
    assert len(smtp.to(NEW["email"])) == 1


@pytest.mark.parametrize(
    ("own", "of_organization", "subject"),
    [
        ("de-AT", "en", "Ihr Passwort wurde geändert"),
        (None, "de", "Ihr Passwort wurde geändert"),
        ("en", "de", "Your password was changed"),
        (None, None, "Your password was changed"),
        ("tlh", "tlh", "Your password was changed"),
    ],
    ids=["own", "organization", "own first", "none", "unknown"],
)
async def test_a_message_has_the_language_and_the_letterhead(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
    own: str | None,
    of_organization: str | None,
    subject: str,
) -> None:
    await people.copy_organizations(MINE)
    async with database.admin() as connection:
        await connection.execute(
            "UPDATE organization_copies SET name = 'Seaside Practice', locale = $1,"
            " email = 'hello@seaside.example', logo_url = 'https://seaside.example/logo.png'",
            of_organization,
        )
    person = await people.add("client", MINE, locale=own)
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    assert (await client.put("/api/auth/password", json=body, headers=person.headers)).is_success
    await send_all(sender)
    [message] = smtp.to(person.email)
    assert message["Subject"] == subject
    assert message["From"].addresses[0].display_name.startswith("Seaside Practice")
    assert message["Reply-To"] == "hello@seaside.example"
    html = message.get_body(("html",))
    assert html is not None
    assert "https://seaside.example/logo.png" in html.get_content()


async def test_an_undeliverable_address_is_shown_to_staff_until_it_changes(
    client: httpx.AsyncClient,
    people: People,
    owner: Person,
    database: Database,
    sender: MailSender,
    smtp: ReceivingServer,
) -> None:
    await people.copy_organizations(MINE)
    person = await people.add("client", MINE)
    smtp.answers[person.email] = ["550 5.1.1 There is no such mailbox"]
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    assert (await client.put("/api/auth/password", json=body, headers=person.headers)).is_success
    await send_all(sender)
    path = f"/api/organizations/{MINE}/users/{person.id}"
    shown = (await client.get(path, headers=owner.headers)).json()
    assert shown["email_undeliverable_at"] is not None
    event = (await database.events())[-1]
    assert event["type"] == "identity.user.updated.v1"
    assert list(event["data"]["new_values"]) == ["email_undeliverable_at"]
    body = {"email": "corrected@example.org"}
    changed = (await client.put(path, json=body, headers=owner.headers)).json()
    assert changed["email_undeliverable_at"] is None
