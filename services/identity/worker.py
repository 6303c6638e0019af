"""The identity service's background work: its relay, news of organizations, forgetting."""

from services.identity import queries
from services.identity.app import NAME
from services.identity.events import CATALOGUE, LISTENERS
from services.identity.handlers import HANDLERS, QUEUE
from services.identity.service import attempt_limits, keyring
from services.identity.service.sessions import REPEAT_WINDOW, RETENTION
from services.identity.settings import Settings
from shared.consumer import Consumer, one_by_one, read_event
from shared.db import make_engine, now
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

DELETE_EXPIRED_EVERY = 600.0


async def delete_expired(transactions: Transactions) -> None:
    """Drop what is of no more use: sessions, answers, counts, private parts of retired keys."""
    async with transactions.system() as session:
        await queries.delete_expired_sessions(session, now() - RETENTION)
        await queries.erase_refresh_answers(session, now() - REPEAT_WINDOW)
        await attempt_limits.delete_expired(session)
        await keyring.retire(session)


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)

    async def run() -> None:
        await delete_expired(transactions)

    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        consumers=[
            Consumer(
                QUEUE, one_by_one(HANDLERS), transactions, settings.rabbitmq_url, read=read_event
            )
        ],
        timers=[Timer("forget", DELETE_EXPIRED_EVERY, run)],
    )


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
