"""Deletion of rows that are no longer needed."""

from services.identity import queries
from services.identity.service import attempt_limits, keyring, links
from services.identity.service.sessions import REPEAT_WINDOW, RETENTION
from shared.db import now
from shared.transactions import Transactions


async def delete_expired(transactions: Transactions) -> None:
    """Delete old sessions, answers, links, challenges and counts.

    The private parts of retired keys are erased.
    """
    async with transactions.system() as session:
        await queries.delete_expired_sessions(session, now() - RETENTION)
        await queries.erase_refresh_answers(session, now() - REPEAT_WINDOW)
        await queries.delete_old_links(session, now() - links.RETENTION)
        await queries.delete_old_challenges(session, now())
        await attempt_limits.delete_expired(session)
        await keyring.erase_retired(session)
