"""The payments service's background work: its relay, its consumers, webhooks, reconciliation."""

from datetime import timedelta

from services.payments.app import NAME
from services.payments.events import CATALOGUE, LISTENERS
from services.payments.gateways import Gateways
from services.payments.handlers import FALLBACKS, queues_of
from services.payments.service import saved_cards, webhooks
from services.payments.service.account_refreshes import AccountRefresher
from services.payments.service.call_limiter import CallLimiter
from services.payments.service.payout_reader import PayoutReader
from services.payments.service.reconciliation import Deadlines, Reconciler
from services.payments.settings import Settings
from shared.consumer import consumers_of
from shared.db import make_engine
from shared.mail.sender import MailSender
from shared.mail.settings import encryption_of
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

PACKAGE = "services.payments"

EVENTS_AT_ONCE = 1
"""The purchase of a voucher that costs nothing locks the voucher, then the organization's series of
invoices. Two purchases in one transaction could wait for a charge that has locked the second one's
voucher and waits for the series: a deadlock."""

WEBHOOKS_EVERY = 0.3
UNFINISHED_EVERY = 5.0
REFUNDS_EVERY = 2.0
CLOSED_EVERY = 60.0
REPAYMENTS_EVERY = 15.0
ACCOUNTS_EVERY = 60.0
PAYOUTS_EVERY = 30.0
CATCH_UP_EVERY = 300.0
TURNS_EVERY = 15.0
DELETE_EVERY = 3600.0


def deadlines_of(settings: Settings) -> Deadlines:
    """Return how long an unfinished payment or refund may wait."""
    return Deadlines(
        reconcile_after=timedelta(seconds=settings.reconcile_after_seconds),
        give_up_after=timedelta(seconds=settings.give_up_after_seconds),
        expire_after=timedelta(seconds=settings.expire_after_seconds),
    )


def reconciler_of(transactions: Transactions, gateways: Gateways, settings: Settings) -> Reconciler:
    """Return the reconciler, with the deadlines and the limit of the settings."""
    limiter = CallLimiter(settings.gateway_calls_per_second)
    return Reconciler(transactions, gateways, deadlines_of(settings), limiter)


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    encryption = encryption_of(settings)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE, mail=encryption)
    gateways = settings.open_gateways()
    reconciler = reconciler_of(transactions, gateways, settings)
    refresher = AccountRefresher(transactions, gateways)
    payout_reader = PayoutReader(transactions, gateways)

    async def process_webhooks() -> None:
        await webhooks.process_due(transactions, gateways)

    async def settle_cards() -> None:
        await saved_cards.settle_unfinished(
            transactions,
            gateways,
            after=timedelta(seconds=settings.reconcile_after_seconds),
            expire_after=timedelta(seconds=settings.expire_after_seconds),
        )

    async def delete_webhook_bodies() -> None:
        await webhooks.delete_bodies(transactions, timedelta(days=settings.webhook_bodies_days))

    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        mails=MailSender(PACKAGE, settings, transactions, encryption),
        consumers=consumers_of(
            queues_of(gateways),
            transactions,
            settings.rabbitmq_url,
            batch=EVENTS_AT_ONCE,
            fallbacks=FALLBACKS,
        ),
        timers=[
            Timer("webhooks", WEBHOOKS_EVERY, process_webhooks),
            Timer("unfinished", UNFINISHED_EVERY, reconciler.settle_unfinished),
            Timer("refunds", REFUNDS_EVERY, reconciler.settle_refunds),
            Timer("saved_cards", UNFINISHED_EVERY, settle_cards),
            Timer("closed", CLOSED_EVERY, reconciler.end_closed),
            Timer("repayments", REPAYMENTS_EVERY, reconciler.count_repayments),
            Timer("accounts", ACCOUNTS_EVERY, refresher.refresh_due),
            Timer("payouts", PAYOUTS_EVERY, payout_reader.run),
            Timer("catch_up", CATCH_UP_EVERY, reconciler.catch_up),
            Timer("catch_up_accounts", TURNS_EVERY, reconciler.catch_up_accounts),
            Timer("missing_gateways", CATCH_UP_EVERY, reconciler.report_missing_gateways),
            Timer("forget_webhook_bodies", DELETE_EVERY, delete_webhook_bodies),
        ],
        connections=gateways,
    )


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
