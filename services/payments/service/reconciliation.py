"""Reconciliation: what a crash, a lost answer or a lost webhook left unfinished is finished.

The gateway is asked about everything unfinished; nothing is guessed that the gateway knows.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from services.payments import queries
from services.payments.gateways import (
    AccountNotAccessible,
    Failure,
    GatewayNotOpen,
    Gateways,
    GatewayUnavailable,
    OnlineGateway,
    PaymentOutcome,
)
from services.payments.models import PaymentTransaction, RepaymentReason, Status
from services.payments.service import charges, payments, refund_attempts
from services.payments.service.call_limiter import CallLimiter
from services.payments.service.catch_up import CatchUp
from services.payments.service.isolation import isolated
from services.payments.states import cancel, fail
from services.payments.telemetry import REPAYMENTS_DUE
from shared.db import now
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 16
CALLS_OF_A_REFUND = 2  # the list of the payment's refunds, then the refund
LONGEST_RUN = timedelta(seconds=30)
"""How long a run asks about unfinished payments; the next one sees those that are due since."""

CLOSED_FOR = timedelta(minutes=5)
"""How long a payment by hand waits for the cancellation that it was closed for."""

INTERRUPTED = Failure(
    "payment_interrupted", "The payment was interrupted before anything was charged."
)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an unfinished payment or refund may wait."""

    reconcile_after: timedelta
    """Until the gateway is asked about it; longer than a charge's own calls take."""
    give_up_after: timedelta
    """Until an attempt that was interrupted before the charge counts as failed."""
    expire_after: timedelta
    """Until a card payment that waits for its payer is cancelled."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Finishes what was left unfinished; every step is safe to repeat and to race."""

    transactions: Transactions
    gateways: Gateways
    deadlines: Deadlines
    limiter: CallLimiter

    async def settle_unfinished(self) -> None:
        """Ask about every unfinished payment that no process is working on."""
        started_at = now()
        before = started_at - self.deadlines.reconcile_after
        names = [gateway.name for gateway in self.gateways.all_online()]
        while now() - started_at < LONGEST_RUN:
            async with self.transactions.system() as session:
                batch = await queries.lock_unfinished_payments(session, names, before, BATCH)
                for payment in batch:
                    # Other processes leave it alone from now on.
                    payment.checked_at = now()
            if not batch:
                return
            await asyncio.gather(*(self._settle_isolated(payment) for payment in batch))

    async def _settle_isolated(self, payment: PaymentTransaction) -> None:
        with isolated("payment", payment.id):
            gateway = self.gateways.online(payment.payment_gateway)
            if gateway is not None:
                await self._settle(gateway, payment)

    async def _settle(self, gateway: OnlineGateway, payment: PaymentTransaction) -> None:
        gateway_id = payment.gateway_transaction_id
        if gateway_id is None:
            await self._end_unprepared(payment.id)
        elif payment.void_requested_at is not None or self._is_expired(payment):
            await self._cancel(gateway, payment, gateway_id)
        else:
            await self.limiter.wait()
            report = await charges.refresh(self.transactions.system, self.gateways, payment)
            is_prepared = report is not None and report.outcome is PaymentOutcome.PREPARED
            if is_prepared and _is_older(payment, self.deadlines.give_up_after):
                await self._cancel(gateway, payment, gateway_id, INTERRUPTED)

    async def _cancel(
        self,
        gateway: OnlineGateway,
        payment: PaymentTransaction,
        gateway_id: str,
        failure: Failure | None = None,
    ) -> None:
        """Cancel at the gateway and apply its answer: perhaps the money was faster."""
        await self.limiter.wait()
        try:
            report = await gateway.cancel(payment.account, gateway_id)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="cancel", cause=str(error))
            if isinstance(error, AccountNotAccessible):
                await charges.set_aside(self.transactions.system, payment.id)
            return
        if failure is not None and report.outcome is PaymentOutcome.CANCELLED:
            report = replace(report, outcome=PaymentOutcome.FAILED, failure=failure)
        await charges.apply_answer(self.transactions.system, gateway, payment.id, report)

    async def _end_unprepared(self, payment_id: int) -> None:
        """End a payment that the gateway has not: its token is lost, or its payer never acted."""
        async with self.transactions.system() as session:
            payment = await queries.lock_payment(session, payment_id)
            if not payment.is_unfinished or payment.gateway_transaction_id is not None:
                return
            is_interrupted = payment.status == Status.PROCESSING
            if is_interrupted and _is_older(payment, self.deadlines.give_up_after):
                await payments.change_payment(session, payment, fail(INTERRUPTED))
            elif self._is_expired(payment):
                await payments.change_payment(session, payment, cancel())

    def _is_expired(self, payment: PaymentTransaction) -> bool:
        waits_for_payer = payment.status in (Status.PENDING, Status.REQUIRES_ACTION)
        return waits_for_payer and _is_older(payment, self.deadlines.expire_after)

    async def end_closed(self) -> None:
        """End payments by hand whose voucher was to be cancelled but was not.

        The process that closed them ended before; the voucher is cancelled by our event.
        """
        before = now() - CLOSED_FOR
        async with self.transactions.system() as session:
            for payment in await queries.lock_closed_payments(session, before, BATCH):
                await payments.change_payment(session, payment, cancel())

    async def count_repayments(self) -> None:
        """Set the metric of repayments that are due, by reason."""
        async with self.transactions.system() as session:
            due = await queries.count_due_repayments(session)
        for reason in RepaymentReason:
            REPAYMENTS_DUE.labels(reason).set(due.get(reason, 0))

    async def settle_refunds(self) -> None:
        """Attempt every pending refund that no process is working on."""
        before = now() - self.deadlines.reconcile_after
        async with self.transactions.system() as session:
            ids = await queries.list_pending_refunds(session, self.gateways.names, before, BATCH)
        await asyncio.gather(*(self._attempt_refund(refund_id, before) for refund_id in ids))

    async def _attempt_refund(self, refund_id: int, before: datetime) -> None:
        with isolated("refund", refund_id):
            for _ in range(CALLS_OF_A_REFUND):
                await self.limiter.wait()
            await refund_attempts.attempt_refund(
                self.transactions.system, self.gateways, refund_id, untouched_since=before
            )

    async def report_missing_gateways(self) -> None:
        """Log which gateways are needed and not open: what is with them stays unfinished."""
        async with self.transactions.system() as session:
            names = await queries.list_awaited_gateways(session)
        for name in sorted(set(names) - set(self.gateways.names)):
            log.error("gateway_missing", cause=str(GatewayNotOpen(name)))

    async def catch_up(self) -> None:
        """Apply what gateways list of the installation's own account and no webhook brought."""
        await self._catch_up.catch_up_installation()

    async def catch_up_accounts(self) -> None:
        """Apply what gateways list of connected accounts and no webhook brought."""
        await self._catch_up.catch_up_accounts()

    @property
    def _catch_up(self) -> CatchUp:
        return CatchUp(self.transactions, self.gateways, self.limiter)


def _is_older(payment: PaymentTransaction, age: timedelta) -> bool:
    return now() - payment.created_at > age
