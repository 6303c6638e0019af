"""The sender over a real SMTP server: order, answers, outages, leases, and a queue of thousands."""

import asyncio
import resource
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.mail import queue
from shared.mail.messages import Mail
from shared.mail.queue import QueuedMail
from shared.mail.sender import BATCH, MailSender, pause_after
from shared.mail.tests.conftest import ORIGIN, NewSender, make_due, note, put
from shared.tenancy import EVERYTHING
from shared.testing import Database, until
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def rows_of(database: Database) -> list[dict[str, Any]]:
    return await database.rows("SELECT * FROM outgoing_mails ORDER BY id")


async def test_a_message_is_sent_once_and_its_content_erased(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    await put(transactions, note("first"))
    assert await sender.run_once() == 1
    assert await sender.run_once() == 0
    [message] = smtp.messages
    assert message["Subject"] == "first"
    [row] = await rows_of(database)
    assert message["Message-ID"] == f"<{row['key']}@carnet.example>"
    assert (row["state"], row["content"], row["attempts"]) == ("sent", None, 1)
    assert row["settled_at"] is not None


async def test_a_message_of_a_transaction_that_fails_is_not_sent(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    with pytest.raises(LookupError):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            await queue.queue_mail(session, note("never"))
            raise LookupError
    assert await sender.run_once() == 0
    assert not smtp.messages
    assert not await rows_of(database)


async def test_many_messages_use_one_connection_in_their_order(
    transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    await put(transactions, *(note(f"number {n}", f"{n % 3}@example.org") for n in range(50)))
    while await sender.run_once():
        pass
    assert smtp.connections == 1
    for n in range(3):
        subjects = [message["Subject"] for message in smtp.to(f"{n}@example.org")]
        assert subjects == [f"number {m}" for m in range(50) if m % 3 == n]


async def test_a_deferred_message_holds_back_only_its_recipient(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    smtp.answers["ann@example.org"] = ["451 greylisted"]
    await put(transactions, note("one"), note("for bob", "bob@example.org"), note("two"))
    while await sender.run_once():
        pass
    assert [message["Subject"] for message in smtp.messages] == ["for bob"]
    first, _, second = await rows_of(database)
    assert (first["state"], first["error"]) == ("waiting", "451 greylisted")
    assert first["due_at"] > first["created_at"] + timedelta(seconds=50)
    assert (second["attempts"], second["leased_until"]) == (0, None)
    await make_due(database)
    while await sender.run_once():
        pass
    assert [m["Subject"] for m in smtp.to("ann@example.org")] == ["one", "two"]


async def test_pauses_grow_to_an_hour() -> None:
    pauses = [pause_after(attempts).total_seconds() / 60 for attempts in (1, 2, 3, 7, 50)]
    for pause, expected in zip(pauses, (1, 2, 4, 60, 60), strict=True):
        assert 0.89 * expected < pause < 1.11 * expected


async def test_after_a_day_a_message_is_parked_and_can_be_retried(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    smtp.answers["ann@example.org"] = ["450 later"]
    await put(transactions, note("late"))
    async with database.admin() as admin:
        await admin.execute("UPDATE outgoing_mails SET give_up_at = now() + interval '5 seconds'")
    await sender.run_once()
    [row] = await rows_of(database)
    assert row["state"] == "parked"
    assert row["error"] == "It was not accepted within a day: 450 later"
    assert row["content"] is not None
    async with transactions.system() as session:
        assert await queue.retry(session, [row["id"]]) == [row["id"]]
    await sender.run_once()
    assert [message["Subject"] for message in smtp.messages] == ["late"]


@pytest.mark.parametrize("code", ["550", "551", "553"])
async def test_an_address_that_is_refused_is_undeliverable(
    database: Database,
    transactions: Transactions,
    new_sender: NewSender,
    smtp: ReceivingServer,
    code: str,
) -> None:
    reports: list[tuple[int | None, str]] = []

    async def report(_session: AsyncSession, mail: QueuedMail, answer: str) -> None:
        # The row is not locked yet: another transaction may lock the user and then the message.
        unlocked = text("SELECT state FROM outgoing_mails WHERE id = :id FOR UPDATE NOWAIT")
        async with transactions.system() as other:
            assert await other.scalar(unlocked, {"id": mail.id}) == "waiting"
        reports.append((mail.user_id, answer))

    smtp.answers["ann@example.org"] = [f"{code} no such user"]
    await put(
        transactions,
        Mail("note", "ann@example.org", {"text": "one"}, user_id=4),
        note("two"),
    )
    sender = new_sender(on_undeliverable=report)
    await sender.run_once()
    assert reports == [(4, f"{code} no such user")]
    assert [row["state"] for row in await rows_of(database)] == ["parked", "sent"]


async def test_a_refused_content_does_not_make_the_address_undeliverable(
    database: Database, transactions: Transactions, new_sender: NewSender, smtp: ReceivingServer
) -> None:
    reports: list[str] = []

    async def report(_session: AsyncSession, _mail: QueuedMail, answer: str) -> None:
        reports.append(answer)

    smtp.data_answers = ["554 looks like spam"]
    await put(transactions, note("one"), note("two"))
    await new_sender(on_undeliverable=report).run_once()
    assert not reports
    assert [row["state"] for row in await rows_of(database)] == ["parked", "sent"]


async def test_a_closing_server_defers_one_message_and_releases_the_others(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    smtp.answers["1@example.org"] = ["421 closing"]
    await put(transactions, *(note(f"{n}", f"{n}@example.org") for n in range(4)))
    await sender.run_once()
    rows = await rows_of(database)
    assert [row["state"] for row in rows] == ["sent", "waiting", "waiting", "waiting"]
    assert [row["attempts"] for row in rows] == [1, 1, 0, 0]
    assert all(row["leased_until"] is None for row in rows)
    await make_due(database)
    await sender.run_once()
    assert sorted(smtp.recipients) == [f"{n}@example.org" for n in range(4)]
    assert smtp.connections == 2


async def test_while_the_server_is_down_nothing_is_lost_and_no_attempt_is_counted(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    await smtp.stop()
    await put(transactions, *(note(f"{n}") for n in range(3)))
    running = asyncio.create_task(sender.run())
    await until(lambda: sender.outages > 2)
    rows = await rows_of(database)
    assert [(row["state"], row["attempts"]) for row in rows] == [("waiting", 0)] * 3
    await smtp.start()
    await until(lambda: len(smtp.messages) == 3)
    await until(lambda: _all_are_sent(database))
    running.cancel()
    await asyncio.wait([running])


async def _all_are_sent(database: Database) -> bool:
    return all(row["state"] == "sent" for row in await rows_of(database))


async def test_a_cancelled_sender_finishes_its_message_and_releases_the_others(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    is_accepted, may_answer = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        is_accepted.set()
        await may_answer.wait()

    smtp.before_answer = wait
    await put(transactions, note("one"), note("two"))
    running = asyncio.create_task(sender.run())
    await is_accepted.wait()
    running.cancel()
    may_answer.set()
    await asyncio.wait([running])
    rows = await rows_of(database)
    assert [(row["state"], row["leased_until"]) for row in rows] == [
        ("sent", None),
        ("waiting", None),
    ]
    assert len(smtp.messages) == 1


async def test_two_senders_send_each_message_once_and_in_order(
    database: Database, transactions: Transactions, new_sender: NewSender, smtp: ReceivingServer
) -> None:
    await put(transactions, *(note(f"{n}", f"{n % 7}@example.org") for n in range(120)))
    senders = [asyncio.create_task(new_sender().run()) for _ in range(3)]
    await until(lambda: _all_are_sent(database))
    for task in senders:
        task.cancel()
    await asyncio.wait(senders)
    assert len(smtp.messages) == 120
    for n in range(7):
        numbers = [int(message["Subject"]) for message in smtp.to(f"{n}@example.org")]
        assert numbers == sorted(numbers)


async def test_an_expired_lease_is_taken_over(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    await put(transactions, note("one"), note("two"))
    async with transactions.system() as session:
        claimed = await queue.claim(session, BATCH, timedelta(minutes=5))
    assert len(claimed) == 2
    assert await sender.run_once() == 0
    async with database.admin() as admin:
        await admin.execute("UPDATE outgoing_mails SET leased_until = now()")
    assert await sender.run_once() == 2
    async with transactions.system() as session:
        await queue.park(session, claimed[0], "of the process that lost its lease")
    assert [row["state"] for row in await rows_of(database)] == ["sent", "sent"]


async def test_a_queue_of_ten_thousand_is_sent_with_bounded_memory(
    database: Database, transactions: Transactions, sender: MailSender, smtp: ReceivingServer
) -> None:
    """Only the first batches are sent here, because all of them take minutes."""
    for start in range(0, 10_000, 1000):
        numbers = range(start, start + 1000)
        await put(transactions, *(note(f"{n}", f"{n % 40}@example.org") for n in numbers))
    subjects: list[int] = []

    async def forget() -> None:
        subjects.append(int(smtp.messages.pop()["Subject"]))
        smtp.recipients.pop()

    smtp.before_answer = forget
    await sender.run_once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(8):
        assert await sender.run_once() == BATCH
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert subjects == list(range(9 * BATCH))
    assert growth < 20_000, "kilobytes"


@pytest.mark.parametrize(
    "mail",
    [
        pytest.param(Mail("missing", "ann@example.org"), id="no such template"),
        pytest.param(Mail("note", "ann@example.org"), id="a value is missing"),
        pytest.param(note("x", "no address"), id="no address"),
        pytest.param(note("x", "ann@example.org\r\nBcc: eve@example.org"), id="injection"),
    ],
)
async def test_what_cannot_be_composed_is_parked_and_blocks_nothing(
    database: Database,
    transactions: Transactions,
    sender: MailSender,
    smtp: ReceivingServer,
    mail: Mail,
) -> None:
    await put(transactions, mail, note("next"))
    await sender.run_once()
    assert [message["Subject"] for message in smtp.messages] == ["next"]
    row, _ = await rows_of(database)
    assert row["state"] == "parked"
    assert row["error"].startswith("It cannot be composed: ")


async def test_a_content_of_another_secret_is_parked(
    database: Database, transactions: Transactions, new_sender: NewSender, smtp: ReceivingServer
) -> None:
    await put(transactions, note("secret"))
    await new_sender(mail_secret=SecretStr("another secret, which is as long")).run_once()
    [row] = await rows_of(database)
    assert (row["state"], row["error"]) == ("parked", "It cannot be composed: UnreadableContent")
    assert not smtp.messages


async def test_without_a_server_messages_wait_and_are_parked_after_a_day(
    database: Database, transactions: Transactions, new_sender: NewSender
) -> None:
    await put(transactions, note("one"), note("two"))
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE outgoing_mails SET give_up_at = now() - interval '1 second'"
            " WHERE id = (SELECT min(id) FROM outgoing_mails)"
        )
    assert await new_sender(smtp_url=None).run_once() == 0
    assert [(row["state"], row["error"]) for row in await rows_of(database)] == [
        ("parked", "No SMTP server is set (SMTP_URL)"),
        ("waiting", None),
    ]
