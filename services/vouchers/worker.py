"""The vouchers service's background work: its relay, its consumers and its timers."""

from datetime import timedelta

import structlog

from services.vouchers.app import NAME, clients_of
from services.vouchers.events import CATALOGUE, LISTENERS
from services.vouchers.external.calendar_reader import CalendarReader
from services.vouchers.handlers import FALLBACKS, QUEUES
from services.vouchers.service import (
    busy_calendars,
    expiry,
    holds,
    occupations,
    payments_client,
    refund_quotes,
    reminders,
    series_sessions,
    unmarked_sessions,
    unpaid_vouchers,
    waitlist,
)
from services.vouchers.service.default_types import complete_missed_creation
from services.vouchers.service.remote_copies import RemoteCopies, fetch_missing_organizations
from services.vouchers.service.therapists import add_missing_therapists
from services.vouchers.settings import Settings, address_encryption_of
from shared.clients import ServiceClients
from shared.consumer import consumers_of
from shared.context import system_origin
from shared.db import make_engine
from shared.errors import ServiceUnavailable
from shared.mail.sender import MailSender
from shared.mail.settings import encryption_of
from shared.settings import load_settings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

PACKAGE = "services.vouchers"

EXPIRE_EVERY = 30.0
CANCEL_EVERY = 60.0
SEATS_EVERY = 15.0
DELETE_EVERY = 3600.0
EXTEND_EVERY = 600.0
REMIND_EVERY = 30.0
READ_CALENDARS_EVERY = 60.0
BOOTSTRAP_EVERY = 10.0

log = structlog.get_logger(__name__)


class OutsideConnections:
    """The connections to other services, and to calendars elsewhere."""

    def __init__(self, clients: ServiceClients, calendars: CalendarReader) -> None:
        self._clients, self._calendars = clients, calendars

    async def aclose(self) -> None:
        """Close them all."""
        await self._clients.aclose()
        await self._calendars.aclose()


def create_worker(settings: Settings) -> Worker:
    """Return the worker, ready to run."""
    engine = make_engine(settings.database_url, pool_size=settings.database_pool_size)
    encryption = encryption_of(settings)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE, mail=encryption)
    clients, calendars = clients_of(settings), CalendarReader()
    return Worker(
        NAME,
        settings,
        transactions,
        listeners=LISTENERS,
        mails=MailSender(PACKAGE, settings, transactions, encryption),
        consumers=consumers_of(QUEUES, transactions, settings.rabbitmq_url, fallbacks=FALLBACKS),
        timers=[
            *timers_of(settings, transactions, clients),
            calendar_timer(settings, transactions, calendars),
        ],
        connections=OutsideConnections(clients, calendars),
    )


def deadlines_of(settings: Settings) -> unpaid_vouchers.PaymentDeadlines:
    """Return how long vouchers may wait for their payment."""
    return unpaid_vouchers.PaymentDeadlines(
        cards=timedelta(hours=settings.pending_hours), others=timedelta(days=settings.pending_days)
    )


def calendar_timer(
    settings: Settings, transactions: Transactions, calendars: CalendarReader
) -> Timer:
    """Return the timer that reads the calendars elsewhere of which it is the turn."""
    encryption = address_encryption_of(settings)

    async def read_calendars() -> None:
        await busy_calendars.read_due_calendars(transactions, calendars, encryption)

    return Timer("read_calendars", READ_CALENDARS_EVERY, read_calendars)


def timers_of(
    settings: Settings, transactions: Transactions, clients: ServiceClients
) -> list[Timer]:
    """Return the timers.

    They expire and cancel vouchers, settle sessions that nobody marked, remind of sessions, and
    fetch what events did not bring.
    """
    deadlines = deadlines_of(settings)

    def new_copies() -> RemoteCopies:
        # Each run has an origin of its own, by which its calls are found in the logs.
        return RemoteCopies(clients, system_origin(), transactions.system)

    async def expire() -> None:
        await expiry.expire_vouchers(transactions)

    async def fetch_organizations() -> None:
        await fetch_missing_organizations(transactions, new_copies())

    async def cancel() -> None:
        origin = system_origin()

        async def close_payment(voucher_id: int) -> None:
            await payments_client.close_payment(clients, origin, voucher_id)

        try:
            await unpaid_vouchers.cancel_unpaid(transactions, close_payment, deadlines)
        except ServiceUnavailable as error:
            log.warning("unpaid_vouchers_wait", cause=error.detail)

    async def delete_quotes() -> None:
        await refund_quotes.delete_expired(transactions)

    async def bootstrap() -> None:
        try:
            await complete_missed_creation(transactions, new_copies())
        except ServiceUnavailable as error:
            # All services of a fresh installation start at the same time: this is no error.
            log.info("bootstrap_waits", cause=error.detail)

    async def delete_occupations() -> None:
        await occupations.delete_history(transactions)

    async def extend_series() -> None:
        await series_sessions.extend_series(transactions)

    async def settle_unmarked() -> None:
        await unmarked_sessions.settle_unmarked(transactions)

    async def delete_reminders() -> None:
        await reminders.delete_history(transactions)

    async def remind() -> None:
        await reminders.plan_reminders(transactions)
        await reminders.report_due_reminders(transactions)

    async def add_therapists() -> None:
        await add_missing_therapists(transactions)

    async def lapse_holds() -> None:
        await holds.lapse_holds(transactions)

    async def give_free_seats() -> None:
        await waitlist.give_free_seats(transactions)

    return [
        Timer("lapse_holds", SEATS_EVERY, lapse_holds),
        Timer("give_free_seats", SEATS_EVERY, give_free_seats),
        Timer("add_therapists", CANCEL_EVERY, add_therapists),
        Timer("delete_occupations", DELETE_EVERY, delete_occupations),
        Timer("extend_series", EXTEND_EVERY, extend_series),
        Timer("settle_unmarked", CANCEL_EVERY, settle_unmarked),
        Timer("delete_reminders", DELETE_EVERY, delete_reminders),
        Timer("remind", REMIND_EVERY, remind),
        Timer("expire_run_out", EXPIRE_EVERY, expire),
        Timer("cancel_unpaid", CANCEL_EVERY, cancel),
        Timer("learn_organizations", CANCEL_EVERY, fetch_organizations),
        Timer("forget_quotes", DELETE_EVERY, delete_quotes),
        Timer("bootstrap", BOOTSTRAP_EVERY, bootstrap),
    ]


if __name__ == "__main__":
    start(create_worker(load_settings(Settings)))
