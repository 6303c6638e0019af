"""The audit service's background work: every event, the coming months, the seals."""

import structlog

from services.audit.app import NAME
from services.audit.events import CATALOGUE, LISTENERS
from services.audit.evidence.drafts import read
from services.audit.evidence.seal_stores import store_at
from services.audit.handlers import BATCH, INTERVAL_SECONDS, QUEUE, handle
from services.audit.service.months import make_months
from services.audit.service.seals import Sealer, SealReader, SealSigner, seal_heads
from services.audit.settings import Settings
from shared.consumer import Consumer
from shared.db import make_engine, now
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

log = structlog.get_logger(__name__)

PARTITIONS_EVERY = 6 * 3600.0
SEAL_CHECK_EVERY = 5.0


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    consumer = Consumer(
        QUEUE,
        handle,
        transactions,
        settings.rabbitmq_url,
        batch=BATCH,
        interval=INTERVAL_SECONDS,
        read=read,
    )
    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        consumers=[consumer],
        timers=[
            Timer("partitions", PARTITIONS_EVERY, lambda: make_months(transactions, now())),
            *_seal_timers(settings, transactions),
        ],
        # Duplicates change nothing, whatever their age.
        keep_inbox=True,
    )


def _seal_timers(settings: Settings, transactions: Transactions) -> list[Timer]:
    if settings.seals is None:
        log.warning("seals_missing", remedy="set AUDIT_SEALS to a place outside the database")
        return []
    store = store_at(settings.seals)
    signer = SealSigner(settings.internal_key.get_secret_value())
    sealer = Sealer(store, SealReader(store, settings.internal_jwks), signer)

    async def seal() -> None:
        await seal_heads(transactions, sealer, now())

    return [Timer("seals", SEAL_CHECK_EVERY, seal)]


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
