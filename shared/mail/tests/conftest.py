"""Mail over a real database and a real SMTP server, through a small service of the tests' own."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from shared.context import Origin
from shared.db import make_engine
from shared.mail.messages import Mail
from shared.mail.queue import queue_mail
from shared.mail.sender import MailSender
from shared.mail.settings import MailSettings, encryption_of
from shared.mail.tests import sample
from shared.provisioning import provision
from shared.tenancy import EVERYTHING
from shared.testing import PASSWORD, Database, Tokens, new_database
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

ORIGIN = Origin("request-1", user_id=5, role="staff")
PUBLIC_URL = "https://carnet.example"

NewSender = Callable[..., MailSender]


@pytest.fixture(scope="session", name="session_database")
def sample_database(test_process: int) -> Iterator[Database]:
    with new_database(f"test_mail_{os.getpid()}_{test_process}") as admin_url:
        database = Database(sample.NAME, admin_url)
        asyncio.run(_prepare(database))
        yield database


async def _prepare(database: Database) -> None:
    await provision(database.admin_url, sample.NAME, password=PASSWORD, owner_password=PASSWORD)
    await sample.create_schema(database)


@pytest.fixture
def settings(database: Database, tokens: Tokens, smtp: ReceivingServer) -> MailSettings:
    return MailSettings(
        database_url=database.url,
        rabbitmq_url=SecretStr("amqp://unused"),
        smtp_url=SecretStr(smtp.url),
        mail_from="Carnet <mail@carnet.example>",
        public_url=PUBLIC_URL,
        mail_secret=SecretStr("a secret that encrypts messages, for tests"),
        **tokens.settings("audit"),
    )


@pytest.fixture
async def transactions(settings: MailSettings) -> AsyncIterator[Transactions]:
    engine = make_engine(settings.database_url)
    yield Transactions(engine, "carnet/sample", {}, mail=encryption_of(settings))
    await engine.dispose()


@pytest.fixture
def new_sender(settings: MailSettings, transactions: Transactions) -> NewSender:
    """Return a function that makes a sender; its arguments replace settings or options."""

    def make(**changes: object) -> MailSender:
        options = {
            name: changes.pop(name) for name in ("lease", "on_undeliverable") if name in changes
        }
        own_settings = settings.model_copy(update=changes)
        return MailSender(
            sample.PACKAGE,
            own_settings,
            transactions,
            encryption_of(own_settings),
            poll_seconds=0.01,
            **options,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def sender(new_sender: NewSender) -> MailSender:
    return new_sender()


async def put(transactions: Transactions, *mails: Mail) -> None:
    """Queue messages in one transaction."""
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        for mail in mails:
            await queue_mail(session, mail)


def note(text: str, recipient: str = "ann@example.org") -> Mail:
    """Return a message with one paragraph, which is its subject too."""
    return Mail("note", recipient, {"text": text})


async def make_due(database: Database, by: timedelta = timedelta(hours=2)) -> None:
    """Move every pause into the past."""
    async with database.admin() as admin:
        await admin.execute("UPDATE outgoing_mails SET due_at = due_at - $1::interval", by)
