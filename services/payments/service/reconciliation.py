"""Reconciliation: whatever a crash, a lost answer or a lost webhook left open is closed.

The gateway is asked about everything unfinished; nothing here decides by itself what it can know.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from services.payments import queries
from services.payments.gateways import GatewayNotOpen, Gateways
from services.payments.gateways.protocol import (
    Failure,
    GatewayUnavailable,
    OnlineGateway,
    Outcome,
)
from services.payments.models import PaymentTransaction
from services.payments.service import payments, refunds, webhooks
from services.payments.service.charges import Cashier
from services.payments.service.refund_attempts import RefundDesk
from services.payments.settings import Settings
from services.payments.states import RepaymentReason, Status
from services.payments.telemetry import REPAYMENTS_DUE
from shared.db import now
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 16
CATCH_UP_WINDOW = timedelta(hours=2)
"""How far back the gateway's own lists are compared: several times the timer's period."""

CLOSED_FOR = timedelta(minutes=5)
"""How long a payment by hand waits for the cancellation that it was closed for."""

INTERRUPTED = Failure(
    "payment_interrupted", "The payment was interrupted before anything was charged."
)


@contextmanager
def _left_alone(kind: str, id_: int | str) -> Iterator[None]:
    """Log what goes wrong with one thing, which does not keep the others from being dealt with."""
    try:
        yield
    except Exception as error:
        log.error("not_reconciled", kind=kind, id=id_, exc_info=error)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Closes what was left open; every step is safe to repeat and to race."""

    transactions: Transactions
    gateways: Gateways
    settings: Settings

    async def settle_unfinished(self) -> None:
        """Ask about every unfinished payment that nobody is working on."""
        before = now() - timedelta(seconds=self.settings.reconcile_after_seconds)
        while payments := await self._take_unfinished(before):
            await asyncio.gather(*(self._settle_safely(payment) for payment in payments))

    async def _take_unfinished(self, before: datetime) -> Sequence[PaymentTransaction]:
        """Take payments that were left alone long enough; others leave them alone from now on."""
        names = [gateway.name for gateway in self.gateways.all_online()]
        async with self.transactions.system() as session:
            payments = await queries.lock_unfinished_payments(session, names, before, BATCH)
            for payment in payments:
                payment.checked_at = now()
        return payments

    async def _settle_safely(self, payment: PaymentTransaction) -> None:
        with _left_alone("payment", payment.id):
            await self._settle(payment)

    async def _settle(self, payment: PaymentTransaction) -> None:
        gateway = self.gateways.online(payment.payment_gateway)
        if gateway is None:
            return
        if payment.gateway_transaction_id is None:
            await self._end_unprepared(payment.id)
            return
        cashier = Cashier(self.transactions.system, self.gateways)
        if payment.void_requested_at is not None or self._expired(payment):
            await self._close(cashier, gateway, payment, payment.gateway_transaction_id)
            return
        report = await cashier.catch_up(payment)
        given_up = self._older(payment, self.settings.give_up_after_seconds)
        if report is not None and report.outcome is Outcome.PREPARED and given_up:
            await self._close(cashier, gateway, payment, report.gateway_id, INTERRUPTED)

    async def _close(
        self,
        cashier: Cashier,
        gateway: OnlineGateway,
        payment: PaymentTransaction,
        gateway_id: str,
        failure: Failure | None = None,
    ) -> None:
        """Cancel at the gateway and enter what it says: perhaps the money was faster."""
        try:
            report = await gateway.cancel(gateway_id)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="cancel", cause=str(error))
            return
        if failure is not None and report.outcome is Outcome.CANCELLED:
            report = replace(report, outcome=Outcome.FAILED, failure=failure)
        await cashier.enter(gateway, payment.id, report)

    async def _end_unprepared(self, payment_id: int) -> None:
        """End what no gateway knows: its token is gone, or its payer never came."""
        async with self.transactions.system() as session:
            payment = await queries.lock_payment(session, payment_id)
            if not payment.is_unfinished or payment.gateway_transaction_id is not None:
                return
            interrupted = payment.status == Status.PROCESSING
            if interrupted and self._older(payment, self.settings.give_up_after_seconds):
                payments.fail(session, payment, INTERRUPTED)
            elif self._expired(payment):
                payments.cancel(session, payment)

    def _expired(self, payment: PaymentTransaction) -> bool:
        waits_for_payer = payment.status in (Status.PENDING, Status.REQUIRES_ACTION)
        return waits_for_payer and self._older(payment, self.settings.expire_after_seconds)

    @staticmethod
    def _older(payment: PaymentTransaction, seconds: float) -> bool:
        return now() - payment.created_at > timedelta(seconds=seconds)

    async def end_closed(self) -> None:
        """End payments by hand whose voucher was to be cancelled, and was not after all.

        The process that asked ended in between; the voucher is cancelled by our event then.
        """
        before = now() - CLOSED_FOR
        async with self.transactions.system() as session:
            for payment in await queries.lock_closed_payments(session, before, BATCH):
                payments.cancel(session, payment)

    async def count_repayments(self) -> None:
        """Set the metric of repayments that are due, by reason."""
        async with self.transactions.system() as session:
            due = await queries.count_due_repayments(session)
        for reason in RepaymentReason:
            REPAYMENTS_DUE.labels(reason).set(due.get(reason, 0))

    async def settle_refunds(self) -> None:
        """Carry on every refund that nobody is working on."""
        before = now() - timedelta(seconds=self.settings.reconcile_after_seconds)
        async with self.transactions.system() as session:
            waiting = await queries.list_pending_refunds(
                session, self.gateways.names, before, BATCH
            )
        desk = RefundDesk(self.transactions.system, self.gateways)
        for refund_id in waiting:
            with _left_alone("refund", refund_id):
                await desk.carry_on(refund_id, untouched_since=before)

    async def tell_of_missing_gateways(self) -> None:
        """Log which gateways are waited for and not open: what is with them stays as it is."""
        async with self.transactions.system() as session:
            waited_for = await queries.list_awaited_gateways(session)
        for name in sorted(set(waited_for) - set(self.gateways.names)):
            log.error("gateway_missing", cause=str(GatewayNotOpen(name)))

    async def catch_up(self) -> None:
        """Take in what the gateway lists and no webhook brought: events and refunds."""
        since = now() - CATCH_UP_WINDOW
        for gateway in self.gateways.all_online():
            try:
                await self._store_missed_events(gateway, since)
                await self._enter_missed_refunds(gateway, since)
            except GatewayUnavailable as error:
                log.warning("gateway_unavailable", step="catch_up", cause=str(error))

    async def _store_missed_events(self, gateway: OnlineGateway, since: datetime) -> None:
        async for notice, body in gateway.events_since(since):
            with _left_alone("event", notice.event_id):
                async with self.transactions.system() as session:
                    new = await webhooks.store(session, gateway.name, notice, body)
                if new:
                    log.info("webhook_missed", gateway=gateway.name, event_id=notice.event_id)

    async def _enter_missed_refunds(self, gateway: OnlineGateway, since: datetime) -> None:
        async for report in gateway.refunds_since(since):
            with _left_alone("refund", report.gateway_id):
                async with self.transactions.system() as session:
                    await refunds.enter(session, gateway.name, report)
