"""Refunds: never more than was captured and not given back yet, each once at the gateway.

A refund is promised in our books first, under the payment's lock: from then on its amount is no
longer there for another. Then the gateway is asked, and then the outcome is written down.
"""

from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import invoicing, queries
from services.payments.errors import PaymentNotPaid, RefundExceedsPayment
from services.payments.events import announce
from services.payments.gateways.manual import BY_HAND
from services.payments.gateways.protocol import Failure, RefundOutcome, RefundReport
from services.payments.models import PaymentTransaction, Refund, RefundSource, RefundStatus
from services.payments.states import PAID, after_refund
from services.payments.telemetry import CONTRADICTIONS, REFUNDS
from shared.changes import record
from shared.db import now

log = structlog.get_logger(__name__)


async def refundable(session: AsyncSession, payment: PaymentTransaction) -> Decimal:
    """Return what was captured and neither given back nor promised; the payment is locked."""
    refunds = await queries.refunds_of(session, payment.id)
    taken = sum((r.amount for r in refunds if r.status != RefundStatus.FAILED), Decimal(0))
    return payment.captured_amount - taken


async def promise(
    session: AsyncSession,
    payment: PaymentTransaction,
    amount: Decimal | None,
    *,
    source: RefundSource,
    reason: str | None = None,
) -> Refund:
    """Note a refund that is to be made, of everything that is left when no amount is said.

    Raises PaymentNotPaid and RefundExceedsPayment. The payment must be locked.
    """
    left = await refundable(session, payment)
    if not payment.captured_amount:
        raise PaymentNotPaid
    wanted = left if amount is None else amount
    if not 0 < wanted <= left:
        raise RefundExceedsPayment
    refund = Refund(
        organization_id=payment.organization_id,
        transaction_id=payment.id,
        client_id=payment.client_id,
        amount=wanted,
        currency=payment.currency,
        reason=reason,
        source=source,
        status=RefundStatus.PENDING,
        payment_gateway=payment.payment_gateway,
    )
    session.add(refund)
    await session.flush()
    record(session, "CREATE", refund, voucher_id=payment.voucher_id)
    return refund


async def give_back_all(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Promise everything that is left of a payment whose voucher was cancelled.

    Cash does not go back by itself: staff give it and note it, by the refunds of the API.
    """
    if payment.payment_gateway == BY_HAND:
        log.warning("money_to_give_back_by_hand", payment_id=payment.id)
    elif await refundable(session, payment) > 0:
        await promise(session, payment, None, source=RefundSource.CANCELLATION)


async def settle(
    session: AsyncSession, payment: PaymentTransaction, report: RefundReport
) -> Refund | None:
    """Enter what a gateway says of a refund: ours, or one made at the gateway's own console.

    The payment must be locked. None when it contradicts our books and nothing was changed.
    """
    refund = await _find(session, payment, report)
    if refund is None:
        refund = await _take_over(session, payment, report)
    if refund is None or refund.status != RefundStatus.PENDING:
        return refund
    refund.gateway_refund_id = report.gateway_id
    refund.gateway_response = dict(report.raw)
    if report.outcome is RefundOutcome.SUCCEEDED:
        await _succeed(session, payment, refund)
    elif report.outcome is RefundOutcome.FAILED:
        fail(session, refund, Failure("refund_failed", "The gateway could not give it back."))
    return refund


async def _find(
    session: AsyncSession, payment: PaymentTransaction, report: RefundReport
) -> Refund | None:
    for refund in await queries.refunds_of(session, payment.id):
        if refund.gateway_refund_id == report.gateway_id:
            return refund
        if refund.id == report.refund_id and refund.gateway_refund_id is None:
            return refund
    return None


async def _take_over(
    session: AsyncSession, payment: PaymentTransaction, report: RefundReport
) -> Refund | None:
    """Take a refund that was made at the gateway's console into our books."""
    if report.outcome is RefundOutcome.FAILED:
        return None
    left = await refundable(session, payment)
    if report.currency != payment.currency or not 0 < report.amount <= left:
        CONTRADICTIONS.inc()
        log.error("refund_contradicted", payment_id=payment.id, gateway_refund=report.gateway_id)
        return None
    return await promise(session, payment, report.amount, source=RefundSource.GATEWAY)


async def _succeed(session: AsyncSession, payment: PaymentTransaction, refund: Refund) -> None:
    refund.status = RefundStatus.SUCCEEDED
    refund.completed_at = now()
    payment.refunded_amount += refund.amount
    if payment.status in PAID:
        payment.status = after_refund(payment.captured_amount, payment.refunded_amount)
    note = await invoicing.credit(session, payment, refund)
    details = {
        "refunded_amount": payment.refunded_amount,
        "credit_note_number": note.number if note else None,
    }
    announce(session, "REFUND", payment, refund_id=refund.id, **details)
    record(
        session,
        "REFUND",
        refund,
        voucher_id=payment.voucher_id,
        transaction_id=payment.id,
        client_id=payment.client_id,
        amount=refund.amount,
        currency=refund.currency,
        payment_status=payment.status,
        **details,
    )
    REFUNDS.labels(refund.status).inc()


def fail(session: AsyncSession, refund: Refund, failure: Failure) -> None:
    """Take a promise back: its amount may be refunded again."""
    refund.status = RefundStatus.FAILED
    refund.failure_message = failure.message
    refund.completed_at = now()
    record(session, "FAIL", refund, transaction_id=refund.transaction_id, amount=refund.amount)
    REFUNDS.labels(refund.status).inc()
