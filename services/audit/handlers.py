"""The events that this service receives: all events of all services."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.events import QUEUE_NAME
from services.audit.evidence.drafts import Draft
from services.audit.service.ingestion import store
from shared.bus import Queue

QUEUE = Queue(QUEUE_NAME, ("#",))
BATCH = 1000
"""At most this many events in a transaction. The fixed cost of a batch, seven round trips to the
database and a commit, is then small beside the cost of its rows."""
PACE_SECONDS = 0.01
"""The next batch begins not earlier than this after the one before, so that batches form."""


async def handle(session: AsyncSession, drafts: Sequence[Draft]) -> None:
    """Write a batch of drafts to the audit trail, in the transaction of their inbox rows."""
    await store(session, drafts)
