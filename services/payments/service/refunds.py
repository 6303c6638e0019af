"""Refunds: never more than was captured and not given back yet, each once at the gateway.

A refund is promised in our books first, under the payment's lock: from then on its amount is no
longer there for another. Then the gateway is asked, and then the outcome is written down.
"""

from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.errors import PaymentDisputed, PaymentNotPaid, RefundExceedsPayment
from services.payments.events import announce
from services.payments.gateways.manual import BY_HAND
from services.payments.gateways.minor_units import smallest_unit
from services.payments.gateways.protocol import Failure, RefundOutcome, RefundReport
from services.payments.models import PaymentTransaction, Refund, RefundSource, RefundStatus
from services.payments.schemas import QuotedRefund
from services.payments.service import invoices, repayments
from services.payments.states import PAID, RepaymentReason, after_refund
from services.payments.telemetry import CONTRADICTIONS, REFUNDS
from shared.changes import record
from shared.db import now
from shared.errors import Invalid

log = structlog.get_logger(__name__)

EXCEEDS = Failure(
    "refund_exceeds_payment", "More than is left of the payment cannot be given back."
)
CAME_BACK = Failure(
    "refund_came_back",
    "It did not reach the payer: the gateway has the money again. Give it back in another way.",
)
DIFFERS = Failure("refund_differs", "The payment's currency has no such amount.")


async def refundable(session: AsyncSession, payment: PaymentTransaction) -> Decimal:
    """Return what was captured and neither given back nor promised nor disputed.

    The payment must be locked by who gives it back.
    """
    return max(await _kept(session, payment) - payment.disputed_amount, Decimal(0))


async def _kept(session: AsyncSession, payment: PaymentTransaction) -> Decimal:
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
    by_hand: bool = False,
) -> Refund:
    """Note a refund that is to be made, of everything that is left when no amount is said.

    With `by_hand` staff give it back, whichever gateway took the payment.

    Raises PaymentNotPaid, RefundExceedsPayment, PaymentDisputed, and Invalid for a fraction that
    the currency does not have. The payment must be locked.
    """
    if not payment.captured_amount:
        raise PaymentNotPaid
    kept, left = await _kept(session, payment), await refundable(session, payment)
    wanted = left if amount is None else amount
    if not kept or wanted > kept:
        raise RefundExceedsPayment
    if not 0 < wanted <= left:
        raise PaymentDisputed
    if wanted % smallest_unit(payment.currency):
        raise Invalid("amount", f"must be whole: {payment.currency} has no fractions")
    gateway = BY_HAND if by_hand else payment.payment_gateway
    return await _note(
        session, payment, wanted, source=source, reason=reason, payment_gateway=gateway
    )


async def promise_quoted(session: AsyncSession, order: QuotedRefund) -> Refund:
    """Note the refund that a quote promised, once however often it is asked for.

    When the money is not there any more, or not in the payment's currency, it is noted as failed:
    the voucher's sessions that went with it are free again then. Raises PaymentNotFound.
    """
    payment = await queries.lock_payment(session, order.transaction_id)
    known = await queries.find_refund_of_quote(session, order.quote_id)
    if known is not None:
        return known
    left = await refundable(session, payment)
    refund = await _note(
        session,
        payment,
        order.amount,
        source=RefundSource.STAFF,
        reason=order.reason,
        quote_id=order.quote_id,
    )
    if order.amount > left:
        await fail(session, payment, refund, EXCEEDS)
    elif order.currency != payment.currency or order.amount % smallest_unit(payment.currency):
        await fail(session, payment, refund, DIFFERS)
    return refund


async def _note(
    session: AsyncSession, payment: PaymentTransaction, amount: Decimal, **columns: Any
) -> Refund:
    refund = Refund(
        organization_id=payment.organization_id,
        transaction_id=payment.id,
        client_id=payment.client_id,
        amount=amount,
        currency=payment.currency,
        status=RefundStatus.PENDING,
        **({"payment_gateway": payment.payment_gateway} | columns),
    )
    session.add(refund)
    await session.flush()
    record(session, "CREATE", refund, voucher_id=payment.voucher_id)
    return refund


async def give_back_all(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Promise everything that is left of a payment whose voucher was cancelled.

    Cash does not go back by itself: it is listed for staff, who give it back.
    """
    left = await refundable(session, payment)
    if left <= 0:
        return
    if payment.payment_gateway == BY_HAND:
        await repayments.note(session, payment, left, RepaymentReason.VOUCHER_CANCELLED)
    else:
        await promise(session, payment, None, source=RefundSource.CANCELLATION)


async def enter(session: AsyncSession, gateway: str, report: RefundReport) -> bool:
    """Enter what a gateway says of a refund of its own accord; say whether it changed anything."""
    if report.payment_id is None:
        return False
    payment = await queries.lock_payment_by_gateway_id(session, gateway, report.payment_id)
    if payment is None or not payment.captured_amount:
        return False
    return await settle(session, payment, report)


async def settle(session: AsyncSession, payment: PaymentTransaction, report: RefundReport) -> bool:
    """Enter what a gateway says of a refund: ours, or one made at the gateway's own console.

    Say whether it changed anything. The payment must be locked.
    """
    known = await _find(session, payment, report)
    refund = known or await _take_over(session, payment, report)
    if refund is None:
        return False
    if refund.status != RefundStatus.PENDING:
        return await _came_back(session, payment, refund, report)
    refund.gateway_refund_id = report.gateway_id
    refund.gateway_response = dict(report.raw)
    if report.outcome is RefundOutcome.SUCCEEDED:
        await _succeed(session, payment, refund)
    elif report.outcome is RefundOutcome.FAILED:
        failure = Failure("refund_failed", "The gateway could not give it back.")
        await fail(session, payment, refund, failure)
    return known is None or refund.status != RefundStatus.PENDING


async def _came_back(
    session: AsyncSession, payment: PaymentTransaction, refund: Refund, report: RefundReport
) -> bool:
    """Write down, once, that a refund which was made did not reach its payer.

    Stripe may say so days later (https://docs.stripe.com/refunds#failed-refunds). The money is with
    the gateway again; how it gets to the payer now, only a person can decide.
    """
    made = refund.status == RefundStatus.SUCCEEDED
    if not made or report.outcome is not RefundOutcome.FAILED or refund.failure_message is not None:
        return False
    refund.failure_message = CAME_BACK.message
    refund.gateway_response = dict(report.raw)
    _record_failure(session, "RETURN", payment, refund)
    REFUNDS.labels("returned").inc()
    log.error("refund_came_back", payment_id=payment.id, refund_id=refund.id)
    reason = RepaymentReason.REFUND_RETURNED
    await repayments.note(session, payment, refund.amount, reason, refund)
    return True


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
    kept = await _kept(session, payment)
    if report.currency != payment.currency or not 0 < report.amount <= kept:
        CONTRADICTIONS.inc()
        log.error("refund_contradicted", payment_id=payment.id, gateway_refund=report.gateway_id)
        return None
    # What the gateway has done is a fact, whatever is disputed at the same time.
    return await _note(session, payment, report.amount, source=RefundSource.GATEWAY)


async def _succeed(session: AsyncSession, payment: PaymentTransaction, refund: Refund) -> None:
    refund.status = RefundStatus.SUCCEEDED
    refund.completed_at = now()
    payment.refunded_amount += refund.amount
    if payment.status in PAID:
        payment.status = after_refund(payment.captured_amount, payment.refunded_amount)
    note = await invoices.credit(session, payment, refund)
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
        quote_id=refund.quote_id,
        payment_status=payment.status,
        **details,
    )
    REFUNDS.labels(refund.status).inc()
    await repayments.refund_made(session, payment)


async def fail(
    session: AsyncSession, payment: PaymentTransaction, refund: Refund, failure: Failure
) -> None:
    """Take a promise back: its amount may be refunded again.

    A cancelled voucher's money, which nobody asked for, must be given back by a person then.
    """
    refund.status = RefundStatus.FAILED
    refund.failure_message = failure.message
    refund.completed_at = now()
    _record_failure(session, "FAIL", payment, refund)
    REFUNDS.labels(refund.status).inc()
    if refund.source == RefundSource.CANCELLATION:
        reason = RepaymentReason.REFUND_FAILED
        await repayments.note(session, payment, refund.amount, reason, refund)


def _record_failure(
    session: AsyncSession, action: str, payment: PaymentTransaction, refund: Refund
) -> None:
    record(
        session,
        action,
        refund,
        voucher_id=payment.voucher_id,
        transaction_id=payment.id,
        quote_id=refund.quote_id,
        amount=refund.amount,
    )
