"""Use cases of one transaction: open a payment, settle it by a report, mark it paid, void it."""

from collections.abc import Mapping
from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.errors import (
    ChargeDiffers,
    NotPaidByHand,
    PaymentMade,
    PaymentNotPending,
    RepaymentSettled,
)
from services.payments.events import announce
from services.payments.gateways import Gateways
from services.payments.gateways.manual import BY_HAND, handed_over
from services.payments.gateways.protocol import Failure, OnlineGateway, Report
from services.payments.models import PaymentTransaction, RefundSource, Repayment
from services.payments.schemas import Terms, plain
from services.payments.service import invoices, refunds, repayments
from services.payments.states import (
    PAID,
    Expected,
    RepaymentReason,
    RepaymentStatus,
    Status,
    contradiction_of,
    judge,
)
from services.payments.telemetry import CONTRADICTIONS, QUARANTINED, SETTLED
from shared.db import now

log = structlog.get_logger(__name__)


async def open_payment(
    session: AsyncSession, gateways: Gateways, terms: Terms, *, attempting: bool
) -> PaymentTransaction:
    """Return the payment of a voucher, made now if there is none; what costs nothing is paid.

    Raises ChargeDiffers when there is one of other terms.
    """
    await queries.lock_voucher(session, terms.voucher_id)
    known = await queries.lock_payment_of_voucher(session, terms.voucher_id)
    if known is not None:
        _check_same(known, terms)
        return known
    gateway = gateways.for_method(terms.payment_method) if terms.amount else gateways.named(BY_HAND)
    attempting = attempting and isinstance(gateway, OnlineGateway)
    payment = PaymentTransaction(
        **terms.model_dump(exclude={"buyer", "seller", "payment_token"}),
        buyer=plain(terms.buyer),
        seller=plain(terms.seller),
        payment_gateway=gateway.name,
        status=Status.PROCESSING if attempting else Status.PENDING,
    )
    session.add(payment)
    await session.flush()
    announce(session, "CHARGE", payment)
    if not payment.amount:
        await _succeed(session, payment, Decimal(0))
    return payment


def _check_same(known: PaymentTransaction, terms: Terms) -> None:
    asked = (terms.organization_id, terms.client_id, terms.amount, terms.currency)
    if asked != (known.organization_id, known.client_id, known.amount, known.currency):
        raise ChargeDiffers


def begin_attempt(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Note that the gateway is about to be asked."""
    payment.checked_at = now()
    if payment.status == Status.PENDING:
        payment.status = Status.PROCESSING
        announce(session, "PROCESS", payment)


async def settle(
    session: AsyncSession, payment: PaymentTransaction, report: Report, *, live: bool | None
) -> bool:
    """Enter a report into the state machine; say whether it changed the payment.

    The payment must be locked. Whoever brings the report, this is the one way in.
    """
    expected = Expected(payment.amount, payment.currency, live)
    verdict = judge(Status(payment.status), expected, report)
    if verdict is None:
        _note_contradiction(payment, expected, report)
        return False
    payment.gateway_response = dict(report.raw)
    payment.next_action = dict(report.next_action) if report.next_action else None
    match verdict.status:
        case Status.SUCCEEDED:
            await _succeed(session, payment, report.captured)
        case Status.QUARANTINED:
            quarantine(session, payment, verdict.reason or "", report.captured)
        case Status.FAILED:
            fail(session, payment, report.failure or Failure("payment_failed", "It failed."))
        case _:
            payment.status = verdict.status
            announce(session, _ACTIONS[verdict.status], payment)
    SETTLED.labels(payment.status).inc()
    return True


_ACTIONS: Mapping[Status, str] = {
    Status.PROCESSING: "PROCESS",
    Status.REQUIRES_ACTION: "REQUIRE_ACTION",
    Status.CANCELLED: "CANCEL",
}


def _note_contradiction(payment: PaymentTransaction, expected: Expected, report: Report) -> None:
    reason = contradiction_of(expected, report)
    if reason is not None and payment.status != Status.QUARANTINED:
        CONTRADICTIONS.inc()
        log.error("payment_contradicted", payment_id=payment.id, reason=reason)


async def _succeed(session: AsyncSession, payment: PaymentTransaction, captured: Decimal) -> None:
    payment.status = Status.SUCCEEDED
    payment.captured_amount = captured
    payment.completed_at = now()
    invoice = await invoices.issue(session, payment)
    announce(
        session,
        "SUCCEED",
        payment,
        invoice_number=invoice.number,
        completed_at=payment.completed_at,
    )
    if payment.void_requested_at is not None:
        await refunds.give_back_all(session, payment)


def quarantine(
    session: AsyncSession, payment: PaymentTransaction, reason: str, captured: Decimal
) -> None:
    """Set a payment aside for a person: the gateway and our books do not agree."""
    payment.status = Status.QUARANTINED
    payment.quarantine_reason = reason
    payment.captured_amount = captured
    payment.completed_at = now()
    QUARANTINED.inc()
    log.error("payment_quarantined", payment_id=payment.id, reason=reason)
    announce(session, "QUARANTINE", payment, reason=reason)


def fail(session: AsyncSession, payment: PaymentTransaction, failure: Failure) -> None:
    """End a payment without money; the payment must be unfinished."""
    payment.status = Status.FAILED
    payment.failure_code = failure.code
    payment.failure_message = failure.message
    payment.completed_at = now()
    announce(
        session,
        "FAIL",
        payment,
        failure_code=failure.code,
        failure_message=failure.message,
        completed_at=payment.completed_at,
    )


def cancel(session: AsyncSession, payment: PaymentTransaction) -> None:
    """End a payment that no gateway knows; it must be unfinished."""
    payment.status = Status.CANCELLED
    payment.completed_at = now()
    announce(session, "CANCEL", payment)


async def mark_paid(session: AsyncSession, payment: PaymentTransaction, note: str | None) -> None:
    """Note that the money came by hand or by bank. Raises NotPaidByHand, PaymentNotPending."""
    if payment.payment_gateway != BY_HAND:
        raise NotPaidByHand
    if payment.status != Status.PENDING or payment.void_requested_at is not None:
        raise PaymentNotPending
    payment.gateway_response = {"note": note}
    await _succeed(session, payment, payment.amount)
    SETTLED.labels(payment.status).inc()


async def close_by_hand(session: AsyncSession, voucher_id: int) -> None:
    """Let nobody mark a payment as paid any more whose voucher is about to be cancelled.

    The payment's lock decides which of the two comes first. Raises PaymentMade when the money did.
    A payment at a gateway is left alone: its money goes back by itself.
    """
    payment = await queries.lock_payment_of_voucher(session, voucher_id)
    if payment is None or payment.payment_gateway != BY_HAND:
        return
    if payment.captured_amount > payment.refunded_amount:
        raise PaymentMade
    if payment.is_unfinished:
        payment.void_requested_at = payment.void_requested_at or now()


async def settle_repayment(
    session: AsyncSession, organization_id: int, repayment_id: int, text: str | None
) -> Repayment:
    """Note that money was given back by hand; what our books still have becomes a refund.

    Raises RepaymentNotFound, RepaymentSettled, and RefundExceedsPayment or PaymentDisputed when
    something else has taken the money meanwhile.
    """
    known = await queries.get_repayment(session, organization_id, repayment_id)
    payment = await queries.lock_payment(session, known.transaction_id)
    repayment = await queries.get_repayment(session, organization_id, repayment_id)
    if repayment.status != RepaymentStatus.DUE:
        raise RepaymentSettled
    amount = repayment.amount
    repayments.settle(session, repayment, text)
    if repayment.reason != RepaymentReason.REFUND_RETURNED:
        refund = await refunds.promise(
            session, payment, amount, source=RefundSource.STAFF, reason=text, by_hand=True
        )
        await refunds.settle(session, payment, handed_over(refund.order()))
    return repayment


async def void(session: AsyncSession, payment: PaymentTransaction) -> None:
    """End the payment of a voucher that was cancelled before it was active; safe to repeat.

    What the gateway knows is cancelled there first, by the reconciler: only it can say whether the
    money was faster. What was paid goes back.
    """
    if payment.is_unfinished and payment.gateway_transaction_id is None:
        cancel(session, payment)
    elif payment.is_unfinished:
        payment.void_requested_at = payment.void_requested_at or now()
    elif payment.status in PAID:
        await refunds.give_back_all(session, payment)
