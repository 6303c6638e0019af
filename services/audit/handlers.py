"""What this service receives: everything."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.events import QUEUE_NAME
from services.audit.evidence.drafts import Draft
from services.audit.service.ingestion import store
from shared.bus import Queue

QUEUE = Queue(QUEUE_NAME, ("#",))
BATCH = 1000
"""At most so many events a transaction: what a batch costs by itself, seven ways to the database
and back and a commit, is then little beside its rows."""


async def handle(session: AsyncSession, drafts: Sequence[Draft]) -> None:
    """Write a batch of drafts to the audit trail, in the transaction of their inbox rows."""
    await store(session, drafts)
