"""What is stored of a message: nothing in clear, nothing longer than needed, nothing of others."""

import pytest

from shared.mail import queue
from shared.mail.messages import Mail
from shared.mail.sender import MailSender
from shared.mail.tests.conftest import ORIGIN, note, put
from shared.tenancy import Tenant
from shared.testing import Database
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def test_rows_are_emptied_a_month_after_they_were_settled(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    await put(transactions, note("old"), note("new"))
    await sender.run_once()
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE outgoing_mails SET settled_at = settled_at - interval '31 days'"
            " WHERE id = (SELECT min(id) FROM outgoing_mails)"
        )
    async with transactions.system() as session:
        assert await queue.empty_old(session) == 1
    old, new = await database.rows("SELECT * FROM outgoing_mails ORDER BY id")
    assert (old["recipient"], old["user_id"], old["content"], old["error"]) == (None,) * 4
    assert new["recipient"] == "ann@example.org"


async def test_nothing_of_a_message_is_stored_in_clear(
    database: Database, transactions: Transactions
) -> None:
    mail = Mail("greeting", "ann@example.org", {"name": "canary-1"}, {"start": "/#canary-2"})
    await put(transactions, mail)
    [row] = await database.rows("SELECT outgoing_mails::text AS text FROM outgoing_mails")
    assert "canary" not in row["text"]


async def test_the_messages_of_a_user_are_deleted_with_the_user(
    database: Database, transactions: Transactions, sender: MailSender
) -> None:
    mails = [Mail("note", "ann@example.org", {"text": "x"}, user_id=n) for n in (4, 5)]
    await put(transactions, *mails, note("x"), note("x", "bob@example.org"))
    async with transactions.system() as session:
        await queue.delete_mails_of(session, 4, "ann@example.org")
    rows = await database.rows("SELECT recipient FROM outgoing_mails")
    assert [row["recipient"] for row in rows] == ["bob@example.org"]


@pytest.mark.parametrize(
    ("tenant", "texts"),
    [
        pytest.param(Tenant(organization_id=7), ["of 7"], id="organization"),
        pytest.param(Tenant(user_id=4), ["of user 4"], id="user"),
        pytest.param(Tenant(), [], id="nobody"),
    ],
)
async def test_a_tenant_sees_its_own_messages_alone(
    transactions: Transactions, tenant: Tenant, texts: list[str]
) -> None:
    await put(
        transactions,
        Mail("of 7", "a@example.org", organization_id=7),
        Mail("of 8", "a@example.org", organization_id=8),
        Mail("of user 4", "a@example.org", user_id=4),
    )
    async with transactions.begin(ORIGIN, tenant) as session:
        rows = await queue.list_mails(session, state=None, ids=None, limit=10)
    assert [row["template"] for row in rows] == texts
