"""`carnet mails` over a real database: list, show, retry, drop."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from deploy.cli import app
from shared.db import make_engine
from shared.mail.encryption import MailEncryption
from shared.mail.messages import Mail
from shared.mail.queue import queue_mail
from shared.settings import asyncpg_url
from shared.testing import Database, service_database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

session_database = service_database("services.identity")


@pytest.fixture(autouse=True)
def _database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_DATABASE_URL", database.url.get_secret_value())


@pytest.fixture
async def ids(database: Database) -> AsyncIterator[list[int]]:
    """Three messages; the first two are parked."""
    engine = make_engine(asyncpg_url(database.url))
    encryption = MailEncryption(SecretStr("a secret of this test"))
    transactions = Transactions(engine, "carnet/identity", {}, mail=encryption)
    async with transactions.system() as session:
        for name in ("ann", "bob", "eve"):
            context = {"name": "canary"}
            await queue_mail(session, Mail("note", f"{name}@example.org", context))
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE outgoing_mails SET state = 'parked', settled_at = now(),"
            " error = E'550 no\\nsuch user' WHERE recipient <> 'eve@example.org'"
        )
    yield [row["id"] for row in await database.rows("SELECT id FROM outgoing_mails ORDER BY id")]
    await engine.dispose()


async def carnet(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["mails", *arguments])


async def states(database: Database) -> dict[str, str]:
    rows = await database.rows("SELECT recipient, state FROM outgoing_mails")
    return {row["recipient"].partition("@")[0]: row["state"] for row in rows}


async def test_parked_messages_are_listed_with_their_error(ids: list[int]) -> None:
    result = await carnet("list", "identity")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 2
    assert all("550 no such user" in line for line in lines)
    waiting = await carnet("list", "identity", "--state", "waiting")
    assert "eve@example.org" in waiting.output
    assert "no message is sent" in (await carnet("list", "identity", "--state", "sent")).output


async def test_a_message_is_shown_without_its_content(ids: list[int]) -> None:
    result = await carnet("show", "identity", str(ids[0]))
    assert result.exit_code == 0, result.output
    assert "ann@example.org" in result.output
    assert "content" not in result.output
    assert "canary" not in result.output


async def test_one_or_all_are_retried(ids: list[int], database: Database) -> None:
    result = await carnet("retry", "identity", str(ids[0]))
    assert "1 will be sent again" in result.output
    assert await states(database) == {"ann": "waiting", "bob": "parked", "eve": "waiting"}
    assert "1 will be sent again" in (await carnet("retry", "identity", "--all")).output


async def test_only_parked_messages_are_dropped(ids: list[int], database: Database) -> None:
    assert "0 deleted" in (await carnet("drop", "identity", str(ids[2]))).output
    assert "2 deleted" in (await carnet("drop", "identity", "--all")).output
    assert await states(database) == {"eve": "waiting"}


@pytest.mark.parametrize("command", ["retry", "drop"])
async def test_a_selection_is_needed(command: str) -> None:
    assert (await carnet(command, "identity")).exit_code == 1


async def test_an_unknown_id_is_an_error(ids: list[int]) -> None:
    assert (await carnet("show", "identity", "999999")).exit_code == 1
