"""The organizations service's background work: its relay, its consumer, interrupted foundings.

The worker also creates the default organization: every installation starts workers, so operators
need no further step.
"""

from services.organizations.app import NAME, clients_of
from services.organizations.events import CATALOGUE, LISTENERS
from services.organizations.handlers import QUEUES
from services.organizations.service.default_organization import ensure_default_organization
from services.organizations.service.founding import settle_interrupted
from services.organizations.settings import Settings
from shared.consumer import consumers_of
from shared.db import make_engine
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

SETTLE_EVERY = 30.0
MAKE_DEFAULT_EVERY = 3600.0


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    clients = clients_of(settings)

    async def settle() -> None:
        await settle_interrupted(transactions, clients)

    async def make_default() -> None:
        await ensure_default_organization(transactions)

    timers = [
        Timer("settle_foundings", SETTLE_EVERY, settle),
        Timer("default_organization", MAKE_DEFAULT_EVERY, make_default),
    ]
    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        consumers=consumers_of(QUEUES, transactions, settings.rabbitmq_url),
        timers=timers,
        connections=clients,
    )


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
