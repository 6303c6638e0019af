"""Refund attempts: a refund is stored as pending, made at the gateway, and its outcome stored.

No transaction is open while the gateway is asked. What stays pending is attempted again by the
reconciler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import structlog

from services.payments import access, queries
from services.payments.gateways import (
    AccountNotAccessible,
    Failure,
    Gateway,
    GatewayRefused,
    Gateways,
    GatewayUnavailable,
    RefundOrder,
    RefundOutcome,
    RefundReport,
)
from services.payments.models import PaymentTransaction, Refund, RefundSource, RefundStatus
from services.payments.schemas import QuotedRefund
from services.payments.service import payment_accounts, refunds
from shared.actors import Actor
from shared.db import now
from shared.failpoints import failpoint
from shared.work import Begin, Work

log = structlog.get_logger(__name__)

ACCOUNT_DISCONNECTED = Failure(
    "account_disconnected",
    "The account that was paid is not connected any more. Its owner can refund at the payment"
    " gateway, and looks there first whether this refund was made.",
)


@dataclass(frozen=True, slots=True)
class RefundAttempt:
    """A refund that no other process is working on, of a payment that brought in `captured`.

    `gateway_refund_id` is the gateway's id of a refund that was made before and is on its way.
    """

    gateway: str
    payment_id: int
    gateway_payment_id: str | None
    gateway_refund_id: str | None
    order: RefundOrder
    captured: Decimal


async def refund_payment(
    work: Work,
    actor: Actor,
    gateways: Gateways,
    organization_id: int,
    payment_id: int,
    amount: Decimal | None,
    reason: str | None,
) -> Refund:
    """Give a payment back, everything that is left when `amount` is None.

    Raises OrganizationNotFound, Forbidden, PaymentNotFound, and what `create_refund` raises.
    """
    access.require_manager(actor, organization_id)
    # A retried request continues the refund that its Idempotency-Key belongs to.
    refund_id = work.claim.resource_id if work.claim else None
    if refund_id is None:
        async with work.begin() as session:
            payment = await queries.lock_payment(session, payment_id, organization_id)
            refund = await refunds.create_refund(
                session, payment, amount, source=RefundSource.STAFF, reason=reason
            )
            refund_id = refund.id
            if work.claim:
                await work.claim.attach(session, refund_id)
    await attempt_refund(work.begin, gateways, refund_id)
    async with work.begin() as session:
        return await queries.get_refund(session, refund_id)


async def refund_quote(
    begin: Begin, gateways: Gateways, quote: QuotedRefund
) -> tuple[Refund, PaymentTransaction]:
    """Give back what a quote promises, once however often it is called; return refund and payment.

    Raises PaymentNotFound.
    """
    async with begin() as session:
        refund_id = (await refunds.create_quoted_refund(session, quote)).id
    await attempt_refund(begin, gateways, refund_id)
    async with begin() as session:
        refund = await queries.get_refund(session, refund_id)
        return refund, await queries.get_payment(session, refund.transaction_id)


async def attempt_refund(
    begin: Begin, gateways: Gateways, refund_id: int, *, untouched_since: datetime | None = None
) -> None:
    """Make a pending refund at its gateway, once; an unknown outcome is left to the reconciler.

    An earlier attempt is repeated only if it began before `untouched_since`.
    """
    attempt = await _begin_attempt(begin, refund_id, untouched_since)
    if attempt is None:
        return
    failpoint("refund.begun")
    try:
        report = await _refund_at_gateway(gateways.named(attempt.gateway), attempt)
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="refund", cause=str(error))
        if isinstance(error, AccountNotAccessible):
            await _end_on_disconnected(begin, attempt, refund_id)
    except GatewayRefused as refusal:
        async with begin() as session:
            payment = await queries.lock_payment(session, attempt.payment_id)
            refund = await queries.lock_refund(session, refund_id)
            if refund is not None and refund.status == RefundStatus.PENDING:
                await refunds.fail_refund(session, payment, refund, refusal.failure)
    else:
        failpoint("refund.made")
        async with begin() as session:
            payment = await queries.lock_payment(session, attempt.payment_id)
            await refunds.apply_refund_report(session, payment, report)
        failpoint("refund.entered")


async def _end_on_disconnected(begin: Begin, attempt: RefundAttempt, refund_id: int) -> None:
    """Fail a refund on an account that is disconnected: nobody but its owner can make it."""
    async with begin() as session:
        payment = await queries.lock_payment(session, attempt.payment_id)
        refund = await queries.lock_refund(session, refund_id)
        is_pending = refund is not None and refund.status == RefundStatus.PENDING
        if refund and is_pending and await payment_accounts.is_disconnected(session, payment):
            await refunds.fail_refund(session, payment, refund, ACCOUNT_DISCONNECTED)


async def _begin_attempt(
    begin: Begin, refund_id: int, untouched_since: datetime | None
) -> RefundAttempt | None:
    """Reserve a refund for an attempt; return None when it is made or another process has it."""
    async with begin() as session:
        refund = await queries.lock_refund(session, refund_id)
        if refund is None or refund.status != RefundStatus.PENDING:
            return None
        before = refund.attempted_at
        if before is not None and (untouched_since is None or before >= untouched_since):
            return None
        payment = await queries.get_payment(session, refund.transaction_id)
        refund.attempted_at = now()
        return RefundAttempt(
            gateway=refund.payment_gateway,
            payment_id=payment.id,
            gateway_payment_id=payment.gateway_transaction_id,
            gateway_refund_id=refund.gateway_refund_id,
            order=refund.order(payment),
            captured=payment.captured_amount,
        )


async def _refund_at_gateway(gateway: Gateway, attempt: RefundAttempt) -> RefundReport:
    """Return the report of a refund: as the gateway lists it, or of the refund that is made now.

    Nothing is made when so much went back at the gateway's console that too little is left. Raises
    GatewayUnavailable and GatewayRefused.
    """
    reports = await _refunds_at_gateway(gateway, attempt)
    earlier = _find_earlier(reports, attempt)
    if earlier is not None:
        return earlier
    if attempt.gateway_refund_id is not None:
        raise GatewayUnavailable(f"{attempt.gateway_refund_id} is not among the payment's refunds")
    total = sum((r.amount for r in reports if r.outcome is not RefundOutcome.FAILED), Decimal(0))
    if total + attempt.order.amount > attempt.captured:
        raise GatewayRefused(refunds.EXCEEDS)
    return await gateway.refund(attempt.gateway_payment_id, attempt.order)


async def _refunds_at_gateway(gateway: Gateway, attempt: RefundAttempt) -> Sequence[RefundReport]:
    if attempt.gateway_payment_id is None:
        return []
    try:
        return await gateway.refunds_of(attempt.order.account, attempt.gateway_payment_id)
    except GatewayRefused as refusal:
        if attempt.gateway_refund_id is None:
            raise
        # The gateway had both before: the money may be on its way and would be refunded twice.
        raise GatewayUnavailable(f"{attempt.gateway_refund_id} is not known any more") from refusal


def _find_earlier(reports: Sequence[RefundReport], attempt: RefundAttempt) -> RefundReport | None:
    """Return the refund as the gateway lists it, or None.

    It may be on its way, perhaps made at the gateway's console and so without an id of ours, or an
    interrupted attempt has made it. A gateway's idempotency keys are no substitute: they last a day
    at most, and not every gateway has them.
    """
    if attempt.gateway_refund_id is not None:
        return next((r for r in reports if r.gateway_id == attempt.gateway_refund_id), None)
    return next((r for r in reports if r.refund_id == attempt.order.refund_id), None)
