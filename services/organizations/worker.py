"""The organizations service's background work: its relay, its consumer, interrupted foundings.

The worker also sees to the default organization: whoever installs Carnet starts workers, so no
further step can be forgotten.
"""

from services.organizations.app import NAME, clients_of
from services.organizations.bootstrap import ensure_default_organization
from services.organizations.events import CATALOGUE, LISTENERS
from services.organizations.handlers import HANDLERS, QUEUE
from services.organizations.service.founding import settle_interrupted
from services.organizations.settings import Settings
from shared.consumer import Consumer, one_by_one, read_event
from shared.db import make_engine
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

SETTLE_EVERY = 30.0
LOOK_AFTER_DEFAULT_EVERY = 3600.0


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    clients = clients_of(settings)

    async def settle() -> None:
        await settle_interrupted(transactions, clients)

    async def look_after_default() -> None:
        await ensure_default_organization(transactions)

    timers = [
        Timer("settle_foundings", SETTLE_EVERY, settle),
        Timer("default_organization", LOOK_AFTER_DEFAULT_EVERY, look_after_default),
    ]
    consumer = Consumer(
        QUEUE, one_by_one(HANDLERS), transactions, settings.rabbitmq_url, read=read_event
    )
    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        consumers=[consumer],
        timers=timers,
        connections=clients,
    )


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
