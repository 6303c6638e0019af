"""Disputes: the payer's bank takes money back that it paid, and a gateway reports it by webhook.

A dispute moves forward only, from `open` to `won` or `lost`; the report of the end may arrive
before the report of the beginning. What is open or lost cannot be refunded:
it would be given back twice.
Invoices stay as they are, because a claim does not end with a chargeback.
"""

from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.gateways import DisputeOutcome, DisputeReport, OnlineGateway
from services.payments.models import Dispute, DisputeStatus, PaymentTransaction
from services.payments.telemetry import CONTRADICTIONS, DISPUTES
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.paging import Page
from shared.reads import Reader

log = structlog.get_logger(__name__)

_STATUS = {
    DisputeOutcome.OPEN: DisputeStatus.OPEN,
    DisputeOutcome.WON: DisputeStatus.WON,
    DisputeOutcome.LOST: DisputeStatus.LOST,
}


async def list_disputes(
    reader: Reader,
    actor: Actor,
    organization_id: int,
    page: Page,
    status: DisputeStatus | None,
) -> bytes:
    """Return a page of the disputes of an organization's payments as JSON, newest first.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.page_of_disputes(reader, page, organization_id, status)


async def apply_dispute_report(
    session: AsyncSession, gateway: OnlineGateway, report: DisputeReport
) -> bool:
    """Apply a gateway's report to a dispute; return whether it changed anything.

    A report of another mode or account changes nothing and is counted.
    """
    payment = await queries.lock_payment_by_gateway_id(session, gateway.name, report.payment_id)
    if payment is None:
        return False
    if report.live != gateway.live or report.account != payment.gateway_account:
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
    await _update_disputed_amount(session, payment)
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


async def _update_disputed_amount(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Store how much of a payment is contested or gone.

    A bank may count in another currency: the whole payment counts as disputed then.
    """
    disputes = await queries.disputes_of(session, payment.id)
    effective = [dispute for dispute in disputes if dispute.status != DisputeStatus.WON]
    is_foreign = any(dispute.currency != payment.currency for dispute in effective)
    total = sum((dispute.amount for dispute in effective), Decimal(0))
    payment.disputed_amount = payment.amount if is_foreign else min(total, payment.amount)
