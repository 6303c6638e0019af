"""Money that a person must give back, because no gateway does: noted, listed, and settled.

It is due when a voucher was cancelled whose money had come by hand, when a gateway cannot give the
money of a cancelled voucher back, and when a refund did not reach its payer. In the first two cases
our books still have the money; every refund that is made of it makes less due.
"""

from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import repayment_queries
from services.payments.models import PaymentTransaction, Refund, Repayment
from services.payments.states import RepaymentReason, RepaymentStatus
from services.payments.telemetry import REPAYMENTS
from shared.changes import record
from shared.db import now

log = structlog.get_logger(__name__)


async def note(
    session: AsyncSession,
    payment: PaymentTransaction,
    amount: Decimal,
    reason: RepaymentReason,
    refund: Refund | None = None,
) -> None:
    """Note that a person must give money back; once, however often it is called.

    The payment must be locked.
    """
    refund_id = refund.id if refund else None
    if await repayment_queries.find(session, payment.id, refund_id) is not None:
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


async def refund_made(session: AsyncSession, payment: PaymentTransaction, kept: Decimal) -> None:
    """Let no more be due of a payment than our books still have of it.

    `kept` is what was captured and not given back. The payment must be locked.
    """
    for repayment in await repayment_queries.due_of(session, payment.id):
        if repayment.reason == RepaymentReason.REFUND_RETURNED or kept >= repayment.amount:
            continue
        if kept > 0:
            repayment.amount = kept
            _record(session, "REDUCE", repayment)
        else:
            settle(session, repayment, None)


def settle(session: AsyncSession, repayment: Repayment, text: str | None) -> None:
    """Note that the money was given back; the repayment must be due and its payment locked."""
    repayment.status = RepaymentStatus.SETTLED
    repayment.settled_at = now()
    repayment.note = text
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
