"""Refunds in our books: never more than was captured and not given back yet.

A refund is stored as pending first, under the payment's lock: from then on no other refund can use
its amount. Then the gateway is asked (`refund_attempts`), and then its report is applied.
"""

from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.errors import (
    PaymentDisputed,
    PaymentNotPaid,
    RefundExceedsPayment,
    RepaymentSettled,
)
from services.payments.events import announce
from services.payments.gateways import (
    BY_HAND,
    Failure,
    RefundOutcome,
    RefundReport,
    handed_over,
    smallest_unit,
)
from services.payments.models import (
    PAID,
    PaymentTransaction,
    Refund,
    RefundSource,
    RefundStatus,
    Repayment,
    RepaymentReason,
    RepaymentStatus,
)
from services.payments.schemas import QuotedRefund
from services.payments.service import invoices, repayments
from services.payments.states import after_refund
from services.payments.telemetry import CONTRADICTIONS, REFUNDS
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Invalid
from shared.reads import Reader

log = structlog.get_logger(__name__)

EXCEEDS = Failure(
    "refund_exceeds_payment", "More than is left of the payment cannot be given back."
)
CAME_BACK = Failure(
    "refund_came_back",
    "It did not reach the payer: the gateway has the money again. Give it back in another way.",
)
DIFFERS = Failure("refund_differs", "The payment's currency has no such amount.")


async def list_refunds(
    reader: Reader, actor: Actor, organization_id: int, payment_id: int
) -> bytes:
    """Return a payment's refunds as JSON, oldest first.

    Raises OrganizationNotFound, Forbidden and PaymentNotFound.
    """
    access.require_viewer(actor, organization_id)
    await queries.get_parties(reader, payment_id, organization_id)
    return await queries.list_refunds(reader, payment_id)


async def _not_refunded(session: AsyncSession, payment: PaymentTransaction) -> Decimal:
    """Return what was captured and neither given back nor part of a pending refund."""
    refunds = await queries.refunds_of(session, payment.id)
    total = sum((r.amount for r in refunds if r.status != RefundStatus.FAILED), Decimal(0))
    return payment.captured_amount - total


def _refundable(payment: PaymentTransaction, balance: Decimal) -> Decimal:
    """Return what can be given back of a payment's `balance`: what is not disputed.

    The payment must be locked.
    """
    return max(balance - payment.disputed_amount, Decimal(0))


async def create_refund(
    session: AsyncSession,
    payment: PaymentTransaction,
    amount: Decimal | None,
    *,
    source: RefundSource,
    reason: str | None = None,
    by_hand: bool = False,
) -> Refund:
    """Store a pending refund, of everything that is left when `amount` is None.

    With `by_hand` staff give it back, whichever gateway took the payment.

    Raises PaymentNotPaid, RefundExceedsPayment, PaymentDisputed, and Invalid for a fraction that
    the currency does not have. The payment must be locked.
    """
    if not payment.captured_amount:
        raise PaymentNotPaid
    balance = await _not_refunded(session, payment)
    refundable = _refundable(payment, balance)
    amount = refundable if amount is None else amount
    if not balance or amount > balance:
        raise RefundExceedsPayment
    if not 0 < amount <= refundable:
        raise PaymentDisputed
    if amount % smallest_unit(payment.currency):
        raise Invalid("amount", f"must be whole: {payment.currency} has no fractions")
    gateway = BY_HAND if by_hand else payment.payment_gateway
    return await _insert_refund(
        session, payment, amount, source=source, reason=reason, payment_gateway=gateway
    )


async def create_quoted_refund(session: AsyncSession, quote: QuotedRefund) -> Refund:
    """Store the refund that a quote promises, once however often it is called.

    When the money is not there any more, or not in the payment's currency, the refund is stored as
    failed: vouchers then frees the sessions that it withheld for it. Raises PaymentNotFound.
    """
    payment = await queries.lock_payment(session, quote.transaction_id)
    existing = await queries.find_refund_of_quote(session, quote.quote_id)
    if existing is not None:
        return existing
    refundable = _refundable(payment, await _not_refunded(session, payment))
    refund = await _insert_refund(
        session,
        payment,
        quote.amount,
        source=RefundSource.STAFF,
        reason=quote.reason,
        quote_id=quote.quote_id,
    )
    if quote.amount > refundable:
        await fail_refund(session, payment, refund, EXCEEDS)
    elif quote.currency != payment.currency or quote.amount % smallest_unit(payment.currency):
        await fail_refund(session, payment, refund, DIFFERS)
    return refund


async def _insert_refund(
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
    """Create a refund of everything that is left of a payment whose voucher was cancelled.

    Cash does not go back by itself: a repayment asks staff to give it back.
    """
    refundable = _refundable(payment, await _not_refunded(session, payment))
    if refundable <= 0:
        return
    if payment.payment_gateway == BY_HAND:
        reason = RepaymentReason.VOUCHER_CANCELLED
        await repayments.create_repayment(session, payment, refundable, reason)
    else:
        await create_refund(session, payment, None, source=RefundSource.CANCELLATION)


async def settle_repayment(
    session: AsyncSession, actor: Actor, organization_id: int, repayment_id: int, note: str | None
) -> Repayment:
    """Record that staff gave money back by hand; what our books still have becomes a refund.

    Raises OrganizationNotFound, Forbidden, RepaymentNotFound, RepaymentSettled, and
    RefundExceedsPayment or PaymentDisputed when something else took the money in the meantime.
    """
    access.require_manager(actor, organization_id)
    repayment = await queries.get_repayment(session, organization_id, repayment_id)
    payment = await queries.lock_payment(session, repayment.transaction_id)
    # Read again: another process may have settled it before we got the lock.
    repayment = await queries.get_repayment(session, organization_id, repayment_id)
    if repayment.status != RepaymentStatus.DUE:
        raise RepaymentSettled
    amount = repayment.amount
    repayments.mark_settled(session, repayment, note)
    if repayment.reason != RepaymentReason.REFUND_RETURNED:
        refund = await create_refund(
            session, payment, amount, source=RefundSource.STAFF, reason=note, by_hand=True
        )
        await apply_refund_report(session, payment, handed_over(refund.order(payment)))
    return repayment


async def apply_unrequested_refund_report(
    session: AsyncSession, gateway: str, report: RefundReport
) -> bool:
    """Find the payment of a report that we did not ask for and apply the report.

    Returns whether it changed anything.
    """
    if report.payment_id is None:
        return False
    payment = await queries.lock_payment_by_gateway_id(session, gateway, report.payment_id)
    if payment is None or not payment.captured_amount:
        return False
    if report.account != payment.gateway_account:
        CONTRADICTIONS.inc()
        log.error("refund_contradicted", payment_id=payment.id, refund=report.gateway_id)
        return False
    return await apply_refund_report(session, payment, report)


async def apply_refund_report(
    session: AsyncSession, payment: PaymentTransaction, report: RefundReport
) -> bool:
    """Apply a gateway's report to a refund: ours, or one made at the gateway's own console.

    Returns whether it changed anything. The payment must be locked.
    """
    existing = await _find_refund(session, payment, report)
    refund = existing or await _adopt_refund(session, payment, report)
    if refund is None:
        return False
    if refund.status != RefundStatus.PENDING:
        return await _record_return(session, payment, refund, report)
    refund.gateway_refund_id = report.gateway_id
    refund.gateway_response = dict(report.raw)
    if report.outcome is RefundOutcome.SUCCEEDED:
        await _succeed(session, payment, refund)
    elif report.outcome is RefundOutcome.FAILED:
        failure = Failure("refund_failed", "The gateway could not give it back.")
        await fail_refund(session, payment, refund, failure)
    return existing is None or refund.status != RefundStatus.PENDING


async def _find_refund(
    session: AsyncSession, payment: PaymentTransaction, report: RefundReport
) -> Refund | None:
    for refund in await queries.refunds_of(session, payment.id):
        if refund.gateway_refund_id == report.gateway_id:
            return refund
        if refund.id == report.refund_id and refund.gateway_refund_id is None:
            return refund
    return None


async def _adopt_refund(
    session: AsyncSession, payment: PaymentTransaction, report: RefundReport
) -> Refund | None:
    """Store a refund that was made at the gateway's console; return None if it contradicts us."""
    if report.outcome is RefundOutcome.FAILED:
        return None
    balance = await _not_refunded(session, payment)
    if report.currency != payment.currency or not 0 < report.amount <= balance:
        CONTRADICTIONS.inc()
        log.error("refund_contradicted", payment_id=payment.id, gateway_refund=report.gateway_id)
        return None
    # The gateway has made the refund already, even if the money is disputed.
    return await _insert_refund(session, payment, report.amount, source=RefundSource.GATEWAY)


async def _record_return(
    session: AsyncSession, payment: PaymentTransaction, refund: Refund, report: RefundReport
) -> bool:
    """Record, once, that a refund which was made did not reach its payer.

    Stripe may report it days later (https://docs.stripe.com/refunds#failed-refunds). The money is
    with the gateway again; only a person can decide how it gets to the payer now.
    """
    has_succeeded = refund.status == RefundStatus.SUCCEEDED
    is_recorded = refund.failure_message is not None
    if not has_succeeded or is_recorded or report.outcome is not RefundOutcome.FAILED:
        return False
    refund.failure_message = CAME_BACK.message
    refund.gateway_response = dict(report.raw)
    _record_failure(session, "RETURN", payment, refund)
    REFUNDS.labels("returned").inc()
    log.error("refund_came_back", payment_id=payment.id, refund_id=refund.id)
    reason = RepaymentReason.REFUND_RETURNED
    await repayments.create_repayment(session, payment, refund.amount, reason, refund)
    return True


async def _succeed(session: AsyncSession, payment: PaymentTransaction, refund: Refund) -> None:
    refund.status = RefundStatus.SUCCEEDED
    refund.completed_at = now()
    payment.refunded_amount += refund.amount
    if payment.status in PAID:
        payment.status = after_refund(payment.captured_amount, payment.refunded_amount)
    details = {
        "refunded_amount": payment.refunded_amount,
        "credit_note_number": await invoices.issue_credit_note(session, payment, refund),
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
    await repayments.reduce_to_balance(session, payment)


async def fail_refund(
    session: AsyncSession, payment: PaymentTransaction, refund: Refund, failure: Failure
) -> None:
    """End a pending refund without money: its amount may be refunded again.

    A refund that no person asked for, of a cancelled voucher, becomes a repayment.
    """
    refund.status = RefundStatus.FAILED
    refund.failure_message = failure.message
    refund.completed_at = now()
    _record_failure(session, "FAIL", payment, refund)
    REFUNDS.labels(refund.status).inc()
    if refund.source == RefundSource.CANCELLATION:
        reason = RepaymentReason.REFUND_FAILED
        await repayments.create_repayment(session, payment, refund.amount, reason, refund)


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
