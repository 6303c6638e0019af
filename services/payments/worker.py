"""The payments service's background work: its relay, its consumers, webhooks, reconciliation."""

from datetime import timedelta

from services.payments.app import NAME
from services.payments.events import CATALOGUE, LISTENERS
from services.payments.handlers import (
    ORGANIZATION_HANDLERS,
    ORGANIZATIONS,
    VOUCHERS,
    handlers,
)
from services.payments.service import webhooks
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from shared.consumer import Consumer, one_by_one, read_event
from shared.db import make_engine
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

WEBHOOKS_EVERY = 0.3
UNFINISHED_EVERY = 5.0
REFUNDS_EVERY = 2.0
CLOSED_EVERY = 60.0
REPAYMENTS_EVERY = 15.0
CATCH_UP_EVERY = 300.0
FORGET_EVERY = 3600.0


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    gateways = settings.open_gateways()
    reconciler = Reconciler(transactions, gateways, settings)

    async def process_webhooks() -> None:
        await webhooks.process_waiting(transactions, gateways)

    async def forget_webhook_bodies() -> None:
        await webhooks.forget_bodies(transactions, timedelta(days=settings.webhook_bodies_days))

    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        consumers=[
            Consumer(
                queue,
                one_by_one(handled),
                transactions,
                settings.rabbitmq_url,
                read=read_event,
            )
            for queue, handled in (
                (VOUCHERS, handlers(gateways)),
                (ORGANIZATIONS, ORGANIZATION_HANDLERS),
            )
        ],
        timers=[
            Timer("webhooks", WEBHOOKS_EVERY, process_webhooks),
            Timer("unfinished", UNFINISHED_EVERY, reconciler.settle_unfinished),
            Timer("refunds", REFUNDS_EVERY, reconciler.settle_refunds),
            Timer("closed", CLOSED_EVERY, reconciler.end_closed),
            Timer("repayments", REPAYMENTS_EVERY, reconciler.count_repayments),
            Timer("catch_up", CATCH_UP_EVERY, reconciler.catch_up),
            Timer("missing_gateways", CATCH_UP_EVERY, reconciler.tell_of_missing_gateways),
            Timer("forget_webhook_bodies", FORGET_EVERY, forget_webhook_bodies),
        ],
        connections=gateways,
    )


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
