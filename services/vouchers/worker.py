"""The vouchers service's background work: its relay, its consumers, and what time brings."""

from datetime import timedelta

import structlog

from services.vouchers.app import NAME, clients_of
from services.vouchers.events import CATALOGUE, LISTENERS
from services.vouchers.handlers import QUEUES
from services.vouchers.service import expiry, payments_client, refund_quotes, unpaid_vouchers
from services.vouchers.service.default_types import make_up_for_missed_creation
from services.vouchers.service.remote_copies import RemoteCopies, learn_organizations
from services.vouchers.settings import Settings
from shared.clients import ServiceClients
from shared.consumer import Consumer, one_by_one, read_event
from shared.context import system_origin
from shared.db import make_engine
from shared.errors import ServiceUnavailable
from shared.events import Event
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

EXPIRE_EVERY = 30.0
CANCEL_EVERY = 60.0
FORGET_EVERY = 3600.0
BOOTSTRAP_EVERY = 10.0

log = structlog.get_logger(__name__)


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    clients = clients_of(settings)
    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        consumers=consumers_of(settings, transactions),
        timers=timers_of(settings, transactions, clients),
        connections=clients,
    )


def consumers_of(settings: Settings, transactions: Transactions) -> list[Consumer[Event]]:
    """Return one consumer for each queue."""
    return [
        Consumer(
            queue,
            one_by_one(handlers),
            transactions,
            settings.rabbitmq_url,
            read=read_event,
        )
        for queue, handlers in QUEUES.items()
    ]


def patience_of(settings: Settings) -> unpaid_vouchers.Patience:
    """Return how long vouchers wait for their money."""
    return unpaid_vouchers.Patience(
        cards=timedelta(hours=settings.pending_hours), others=timedelta(days=settings.pending_days)
    )


def timers_of(
    settings: Settings, transactions: Transactions, clients: ServiceClients
) -> list[Timer]:
    """Return what is due by the clock: vouchers that run out, vouchers that nobody paid."""
    patience = patience_of(settings)

    def remote_copies() -> RemoteCopies:
        # Each run's own: its calls are found together in the logs, and apart from other runs'.
        return RemoteCopies(clients, system_origin(), transactions.system)

    async def expire() -> None:
        await expiry.expire_run_out(transactions)

    async def learn() -> None:
        await learn_organizations(transactions, remote_copies())

    async def cancel() -> None:
        origin = system_origin()

        async def close(voucher_id: int) -> None:
            await payments_client.close(clients, origin, voucher_id)

        try:
            await unpaid_vouchers.cancel_unpaid(transactions, close, patience)
        except ServiceUnavailable as error:
            log.warning("unpaid_vouchers_wait", cause=error.detail)

    async def forget() -> None:
        await refund_quotes.forget_untaken(transactions)

    async def bootstrap() -> None:
        try:
            await make_up_for_missed_creation(transactions, remote_copies())
        except ServiceUnavailable as error:
            # Everything starts at once on a fresh installation: not worth an error.
            log.info("bootstrap_waits", cause=error.detail)

    return [
        Timer("expire_run_out", EXPIRE_EVERY, expire),
        Timer("cancel_unpaid", CANCEL_EVERY, cancel),
        Timer("learn_organizations", CANCEL_EVERY, learn),
        Timer("forget_quotes", FORGET_EVERY, forget),
        Timer("bootstrap", BOOTSTRAP_EVERY, bootstrap),
    ]


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
