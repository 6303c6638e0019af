"""A sender that is killed at any point loses no message and repeats at most the one at hand."""

import signal
from pathlib import Path

import pytest

from shared.mail.sender import MailSender
from shared.mail.settings import MailSettings
from shared.mail.tests.conftest import note, put
from shared.mail.tests.sender_process import run_sender
from shared.testing import Database
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("point", "repeated"),
    [
        pytest.param("mail.claimed:1", [], id="before sending"),
        pytest.param("mail.sent:2", ["1"], id="between sending and marking"),
        pytest.param("mail.marked:2", [], id="after marking"),
    ],
)
async def test_a_killed_sender_repeats_at_most_one_message_as_the_same(
    database: Database,
    transactions: Transactions,
    settings: MailSettings,
    sender: MailSender,
    smtp: ReceivingServer,
    tmp_path: Path,
    point: str,
    repeated: list[str],
) -> None:
    await put(transactions, *(note(f"{n}") for n in range(4)))
    assert await run_sender(settings, tmp_path / "points.log", point) == -signal.SIGKILL
    async with database.admin() as admin:  # as after the lease's five minutes
        await admin.execute("UPDATE outgoing_mails SET leased_until = now()")
    while await sender.run_once():
        pass
    subjects = [message["Subject"] for message in smtp.messages]
    assert sorted(subjects) == sorted([*(f"{n}" for n in range(4)), *repeated])
    for subject in repeated:
        ids = {m["Message-ID"] for m in smtp.messages if m["Subject"] == subject}
        assert len(ids) == 1
    assert [row["state"] for row in await database.rows("SELECT state FROM outgoing_mails")] == [
        "sent"
    ] * 4
