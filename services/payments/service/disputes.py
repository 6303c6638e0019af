"""Disputes: the payer's bank takes money back that it paid, and a gateway tells us by webhook.

A dispute moves forward only, from `open` to `won` or `lost`; the end may be heard before the
beginning. What is open or lost is not there for a refund: it would be given back twice. Invoices
stay as they are, because a claim does not end with a chargeback.
"""

from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.gateways.protocol import DisputeOutcome, DisputeReport
from services.payments.models import Dispute, DisputeStatus, PaymentTransaction
from services.payments.telemetry import CONTRADICTIONS, DISPUTES
from shared.changes import record
from shared.db import now

log = structlog.get_logger(__name__)

_STATUS = {
    DisputeOutcome.OPEN: DisputeStatus.OPEN,
    DisputeOutcome.WON: DisputeStatus.WON,
    DisputeOutcome.LOST: DisputeStatus.LOST,
}


async def settle(
    session: AsyncSession, payment: PaymentTransaction, report: DisputeReport, *, live: bool
) -> bool:
    """Enter what a gateway says of a dispute; say whether it changed anything.

    The payment must be locked. A report of another mode or account changes nothing and is counted.
    """
    if report.live != live or report.account is not None:
        CONTRADICTIONS.inc()
        log.error("dispute_contradicted", payment_id=payment.id, dispute=report.gateway_id)
        return False
    dispute = await queries.find_dispute(session, payment.payment_gateway, report.gateway_id)
    status = _STATUS[report.outcome]
    if dispute is None:
        dispute = await _open(session, payment, report)
    elif dispute.status == status or dispute.status != DisputeStatus.OPEN:
        return False
    if status != DisputeStatus.OPEN:
        _close(session, payment, dispute, status)
    await session.flush()
    await _hold(session, payment)
    return True


async def _open(
    session: AsyncSession, payment: PaymentTransaction, report: DisputeReport
) -> Dispute:
    dispute = Dispute(
        organization_id=payment.organization_id,
        transaction_id=payment.id,
        client_id=payment.client_id,
        amount=report.amount,
        currency=report.currency,
        reason=report.reason,
        status=DisputeStatus.OPEN,
        payment_gateway=payment.payment_gateway,
        gateway_dispute_id=report.gateway_id,
        gateway_response=dict(report.raw),
    )
    session.add(dispute)
    await session.flush()
    record(session, "CREATE", dispute, voucher_id=payment.voucher_id)
    DISPUTES.labels(dispute.status).inc()
    log.warning("payment_disputed", payment_id=payment.id, dispute_id=dispute.id)
    return dispute


def _close(
    session: AsyncSession, payment: PaymentTransaction, dispute: Dispute, status: DisputeStatus
) -> None:
    dispute.status = status
    dispute.closed_at = now()
    record(
        session,
        "CLOSE",
        dispute,
        voucher_id=payment.voucher_id,
        transaction_id=payment.id,
        client_id=payment.client_id,
        amount=dispute.amount,
        currency=dispute.currency,
        status=dispute.status,
    )
    DISPUTES.labels(status).inc()


async def _hold(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Note how much of a payment is contested or gone.

    A bank may count in another currency: the whole payment is held then.
    """
    held = [d for d in await queries.disputes_of(session, payment.id) if d.status != "won"]
    foreign = any(dispute.currency != payment.currency for dispute in held)
    total = sum((dispute.amount for dispute in held), Decimal(0))
    payment.disputed_amount = payment.amount if foreign else min(total, payment.amount)
