"""Sends the queue's messages, in the service's worker.

A batch is leased in one transaction, and each message is read, sent and marked by itself, so that
no transaction is open while the SMTP server works, and the memory does not grow with the queue. A
process that is killed between sending and marking repeats this one message, when its lease has
expired. See docs/decisions/0044-mail-leaves-through-a-queue.md.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage

import structlog
from jinja2 import TemplateError
from sqlalchemy.ext.asyncio import AsyncSession

from shared.db import now
from shared.failpoints import failpoint
from shared.mail import queue
from shared.mail.composition import compose
from shared.mail.encryption import MailEncryption, UnreadableContent
from shared.mail.queue import QueuedMail
from shared.mail.rendering import Renderer
from shared.mail.settings import MailSettings, SmtpServer, sender_of
from shared.mail.smtp import AddressRefused, Deferred, Refused, SmtpConnection, Unreachable
from shared.mail.telemetry import CONNECTED, LAG, MAILS, OLDEST, PARKED, WAITING
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 20
LEASE = timedelta(minutes=5)
SEND_SECONDS = 90.0
"""How long sending one message may take. The lease is not used for what could exceed it."""
POLL_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 15.0
SHUTDOWN_SECONDS = 8.0
"""How long a message that is being sent may take after SIGTERM."""
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
LONGEST_OUTAGE_PAUSE = 60.0
TOO_LATE = "It was not accepted within a day"
NOT_CONFIGURED = "No SMTP server is set (SMTP_URL)"

OnUndeliverable = Callable[[AsyncSession, QueuedMail, str], Awaitable[None]]
"""Receives a message whose address the server refuses for good, in the transaction that parks it,
and the server's answer."""


async def ignore(_session: AsyncSession, _mail: QueuedMail, _answer: str) -> None:
    """Do nothing about an undeliverable address."""


class MailSender:
    """Sends the messages of one service. `package` is the service's, with its templates."""

    def __init__(
        self,
        package: str,
        settings: MailSettings,
        transactions: Transactions,
        encryption: MailEncryption,
        *,
        on_undeliverable: OnUndeliverable = ignore,
        lease: timedelta = LEASE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._transactions = transactions
        self._encryption = encryption
        self._on_undeliverable = on_undeliverable
        self._lease = lease
        self._poll_seconds = poll_seconds
        self._connection: SmtpConnection | None = None
        self.outages = 0
        """How many attempts to reach the SMTP server have failed since the last success."""
        self._housekeeping_at = float("-inf")
        if settings.smtp_url is not None and settings.mail_from and settings.public_url:
            server = SmtpServer.of_url(settings.smtp_url.get_secret_value())
            self._connection = SmtpConnection(server)
            self._sender: Address = sender_of(settings.mail_from)
            self._renderer = Renderer(package, settings.public_url)

    async def run(self) -> None:
        """Send until cancelled; after a failure, continue after a pause."""
        if self._connection is None:
            log.warning("mail_not_configured", remedy="set SMTP_URL: see docs/mail.md")
        try:
            while True:
                try:
                    count = await self.run_once()
                except Exception as error:
                    log.error("mail_sender_failed", exc_info=error)
                    count = 0
                if count < BATCH:
                    await asyncio.sleep(self._pause())
        finally:
            if self._connection is not None:
                await self._connection.close()

    async def run_once(self) -> int:
        """Send one batch; return how many messages it had."""
        await self._keep_house()
        if self._connection is None or not await self._is_reachable(self._connection):
            return 0
        async with self._transactions.system() as session:
            batch = await queue.claim(session, BATCH, self._lease)
        failpoint("mail.claimed")
        if batch:
            await self._send_batch(self._connection, batch)
        return len(batch)

    async def _is_reachable(self, connection: SmtpConnection) -> bool:
        """Connect, if messages wait. An outage of the server is no failure of a message."""
        async with self._transactions.system() as session:
            is_needed = await queue.has_due(session)
        if not is_needed:
            await connection.close_if_idle()
            return False
        try:
            await connection.open()
        except Unreachable as error:
            self.outages += 1
            CONNECTED.set(0)
            log.warning("smtp_unreachable", cause=str(error), attempts=self.outages)
            return False
        self.outages = 0
        CONNECTED.set(1)
        return True

    def _pause(self) -> float:
        if not self.outages:
            return self._poll_seconds
        return min(self._poll_seconds * 2.0**self.outages, LONGEST_OUTAGE_PAUSE)

    async def _send_batch(self, connection: SmtpConnection, batch: Sequence[QueuedMail]) -> None:
        """Send a batch, and release what was not tried: after an outage, a delay or SIGTERM."""
        ends_at = time.monotonic() + self._lease.total_seconds() - SEND_SECONDS
        remaining = list(batch)
        blocked_recipients: set[str] = set()
        skipped_mails: list[QueuedMail] = []
        try:
            while remaining and time.monotonic() < ends_at:
                mail = remaining.pop(0)
                if mail.recipient in blocked_recipients:
                    skipped_mails.append(mail)
                elif not await self._finish(self._deliver(connection, mail)):
                    blocked_recipients.add(mail.recipient)
        except Unreachable as error:
            self.outages += 1
            CONNECTED.set(0)
            log.warning("smtp_interrupted", cause=str(error))
        finally:
            await self._finish(self._release([*skipped_mails, *remaining]))

    async def _finish(self, work: Awaitable[bool]) -> bool:
        """Finish a piece of work even if this task is cancelled meanwhile, within a time."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=SHUTDOWN_SECONDS)
            if not task.cancel() and not task.cancelled() and (error := task.exception()):
                log.warning("mail_interrupted", cause=repr(error))
            raise

    async def _release(self, mails: Sequence[QueuedMail]) -> bool:
        if mails:
            async with self._transactions.system() as session:
                await queue.release(session, mails)
        return True

    async def _deliver(self, connection: SmtpConnection, mail: QueuedMail) -> bool:
        """Send a message and mark it; return whether the recipient's next one may be sent.

        Raises Unreachable after it has deferred the message.
        """
        try:
            message = await self._compose(mail)
            if message is None:
                return True
            async with asyncio.timeout(SEND_SECONDS - 10):
                await connection.send(
                    message, sender=self._sender.addr_spec, recipient=mail.recipient
                )
        except (TemplateError, UnreadableContent, ValueError, LookupError, TypeError) as error:
            log.error("mail_not_composed", mail=mail.id, template=mail.template, exc_info=error)
            await self._park(mail, f"It cannot be composed: {type(error).__name__}")
        except Refused as error:
            await self._park(mail, str(error), is_address=isinstance(error, AddressRefused))
        except (Deferred, Unreachable, TimeoutError) as error:
            await self._defer(mail, str(error) or type(error).__name__)
            if isinstance(error, Unreachable):
                raise
            return False
        else:
            failpoint("mail.sent")
            await self._mark_sent(mail)
        return True

    async def _compose(self, mail: QueuedMail) -> EmailMessage | None:
        """Return the e-mail of a row, or None if it was deleted meanwhile."""
        async with self._transactions.system() as session:
            ciphertext = await queue.read_content(session, mail)
        if ciphertext is None:
            return None
        content = queue.mail_of(mail, self._encryption.decrypt(ciphertext, mail.key))
        return compose(
            content,
            self._renderer.render(content),
            sender=self._sender,
            key=mail.key,
            moment=mail.created_at,
        )

    async def _mark_sent(self, mail: QueuedMail) -> None:
        async with self._transactions.system() as session:
            await queue.mark_sent(session, mail)
        failpoint("mail.marked")
        MAILS.labels(mail.template, "sent").inc()
        LAG.observe((now() - mail.created_at).total_seconds())

    async def _defer(self, mail: QueuedMail, error: str) -> None:
        """Let a message wait, or give it up if the pause would end after its day."""
        pause = pause_after(mail.attempts)
        if now() + pause >= mail.give_up_at:
            await self._park(mail, f"{TOO_LATE}: {error}")
            return
        async with self._transactions.system() as session:
            await queue.defer(session, mail, pause, error)
        MAILS.labels(mail.template, "deferred").inc()

    async def _park(self, mail: QueuedMail, error: str, *, is_address: bool = False) -> None:
        async with self._transactions.system() as session:
            if is_address:
                # Before the row is locked: a service locks its user before the user's messages.
                await self._on_undeliverable(session, mail, error)
            await queue.park(session, mail, error)
        MAILS.labels(mail.template, "undeliverable" if is_address else "parked").inc()
        log.warning("mail_parked", mail=mail.id, template=mail.template)

    async def _keep_house(self) -> None:
        """Park messages that are too old, erase old rows and measure the queue, now and then."""
        if time.monotonic() - self._housekeeping_at < HOUSEKEEPING_SECONDS:
            return
        self._housekeeping_at = time.monotonic()
        reason = TOO_LATE if self._connection is not None else NOT_CONFIGURED
        async with self._transactions.system() as session:
            for template in await queue.park_overdue(session, reason):
                MAILS.labels(template, "parked").inc()
            await queue.empty_old(session)
            counts = await queue.count_mails(session)
        WAITING.set(counts.waiting)
        PARKED.set(counts.parked)
        OLDEST.set((now() - counts.oldest).total_seconds() if counts.oldest else 0)


def pause_after(attempts: int) -> timedelta:
    """Return the pause after a number of attempts: twice as long each time, up to an hour."""
    pause = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 10), LONGEST_PAUSE)
    return pause * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load, no secret
