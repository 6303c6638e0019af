"""Repayments: money that a person must give back, because no gateway does.

One is due when a voucher was cancelled whose money had come by hand, when a gateway cannot give the
money of a cancelled voucher back, and when a refund did not reach its payer. In the first two cases
our books still have the money; every refund that is made of it makes less due.
"""

from collections.abc import Sequence
from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.models import (
    PaymentTransaction,
    Refund,
    Repayment,
    RepaymentReason,
    RepaymentStatus,
)
from services.payments.telemetry import REPAYMENTS
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.paging import Page
from shared.reads import Reader

log = structlog.get_logger(__name__)


async def list_repayments(
    reader: Reader,
    actor: Actor,
    organization_id: int,
    page: Page,
    status: RepaymentStatus | None,
) -> bytes:
    """Return a page of an organization's repayments as JSON, newest first.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.page_of_repayments(reader, page, organization_id, status)


async def create_repayment(
    session: AsyncSession,
    payment: PaymentTransaction,
    amount: Decimal,
    reason: RepaymentReason,
    refund: Refund | None = None,
) -> None:
    """Record that a person must give money back; once, however often it is called.

    Never more is due than our books have. The payment must be locked.
    """
    refund_id = refund.id if refund else None
    if await queries.find_repayment(session, payment.id, refund_id) is not None:
        return
    if reason != RepaymentReason.REFUND_RETURNED:
        balance = payment.captured_amount - payment.refunded_amount
        amount = min(amount, balance - _sum(await _due_from_books(session, payment)))
    if amount <= 0:
        return
    repayment = Repayment(
        organization_id=payment.organization_id,
        transaction_id=payment.id,
        voucher_id=payment.voucher_id,
        client_id=payment.client_id,
        refund_id=refund_id,
        amount=amount,
        currency=payment.currency,
        reason=reason,
        status=RepaymentStatus.DUE,
    )
    session.add(repayment)
    await session.flush()
    record(session, "CREATE", repayment)
    REPAYMENTS.labels(reason, repayment.status).inc()
    log.warning("money_to_give_back_by_hand", payment_id=payment.id, reason=reason)


async def reduce_to_balance(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Reduce what is due of a payment to what our books still have; the payment must be locked."""
    due = await _due_from_books(session, payment)
    excess = _sum(due) - (payment.captured_amount - payment.refunded_amount)
    for repayment in due:
        if excess <= 0:
            return
        less = min(excess, repayment.amount)
        excess -= less
        if less < repayment.amount:
            repayment.amount -= less
            _record(session, "REDUCE", repayment)
        else:
            mark_settled(session, repayment, None)


async def _due_from_books(
    session: AsyncSession, payment: PaymentTransaction
) -> Sequence[Repayment]:
    """Return what is due of the money that our books still have."""
    due = await queries.due_repayments_of(session, payment.id)
    return [each for each in due if each.reason != RepaymentReason.REFUND_RETURNED]


def _sum(repayments: Sequence[Repayment]) -> Decimal:
    return sum((each.amount for each in repayments), Decimal(0))


def mark_settled(session: AsyncSession, repayment: Repayment, note: str | None) -> None:
    """Record that the money was given back; the repayment must be due and its payment locked."""
    repayment.status = RepaymentStatus.SETTLED
    repayment.settled_at = now()
    repayment.note = note
    _record(session, "SETTLE", repayment)
    REPAYMENTS.labels(repayment.reason, repayment.status).inc()


def _record(session: AsyncSession, action: str, repayment: Repayment) -> None:
    record(
        session,
        action,
        repayment,
        voucher_id=repayment.voucher_id,
        transaction_id=repayment.transaction_id,
        client_id=repayment.client_id,
        amount=repayment.amount,
        currency=repayment.currency,
        reason=repayment.reason,
        status=repayment.status,
    )
