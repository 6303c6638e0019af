"""The events that this service receives: all events of all services."""

from services.audit.events import QUEUE_NAME
from services.audit.service.ingestion import append
from shared.bus import Queue
from shared.consumer import InboxHandler

QUEUE = Queue(QUEUE_NAME, ("#",))
BATCH = 1000
"""At most this many events in a transaction. The fixed cost of a batch, four round trips to the
database, is then small beside the cost of its rows."""
INTERVAL_SECONDS = 0.02
"""Batches begin once in this time on average at most, so that batches form under load."""


handle = InboxHandler(append)
"""Writes a batch of drafts to the audit trail and to the inbox."""
