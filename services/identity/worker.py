"""The identity service's background work: its relay, its consumer, and the deletion of old rows."""

from services.identity.app import NAME
from services.identity.events import CATALOGUE, LISTENERS
from services.identity.handlers import QUEUES
from services.identity.service import cleanup, notices
from services.identity.service.undeliverable import mark_undeliverable
from services.identity.settings import Settings
from shared.consumer import consumers_of
from shared.db import make_engine
from shared.mail.sender import MailSender
from shared.mail.settings import encryption_of
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

PACKAGE = "services.identity"

DELETE_EVERY = 600.0
NOTIFY_EVERY = 15.0


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    encryption = encryption_of(settings)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE, mail=encryption)

    async def delete_expired() -> None:
        await cleanup.delete_expired(transactions)

    async def notify_managers() -> None:
        await notices.notify_managers(transactions)

    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        mails=MailSender(
            PACKAGE,
            settings,
            transactions,
            encryption,
            on_undeliverable=mark_undeliverable,
        ),
        consumers=consumers_of(QUEUES, transactions, settings.rabbitmq_url),
        timers=[
            Timer("forget", DELETE_EVERY, delete_expired),
            Timer("registration_notices", NOTIFY_EVERY, notify_managers),
        ],
    )


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
