"""The organizations service's background work: its relay, and foundings that were interrupted."""

from services.organizations.app import NAME, clients_of
from services.organizations.events import CATALOGUE
from services.organizations.founding import settle_interrupted
from services.organizations.settings import Settings
from shared.db import make_engine
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

SETTLE_EVERY = 30.0


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    clients = clients_of(settings)

    async def settle() -> None:
        await settle_interrupted(transactions, clients)

    return Worker(
        NAME, settings, transactions, timers=[Timer("settle_foundings", SETTLE_EVERY, settle)]
    )


if __name__ == "__main__":
    start(create_worker(Settings()))
