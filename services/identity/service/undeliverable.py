"""Addresses that a mail server refuses for good are marked, so that staff can correct them."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from shared.changes import record
from shared.db import now
from shared.mail.queue import QueuedMail
from shared.text import fold


async def mark_undeliverable(session: AsyncSession, mail: QueuedMail, _answer: str) -> None:
    """Mark the user whose message was refused, unless the user has another address meanwhile."""
    if mail.user_id is None:
        return
    user = await queries.find_user_for_update(session, mail.user_id)
    if user is None or user.email_undeliverable_at is not None:
        return
    if fold(user.email) == fold(mail.recipient):
        user.email_undeliverable_at = now()
        record(session, "UPDATE", user)
        await session.flush()
