"""Payments: shown, opened for a voucher, changed by a gateway's report or by staff, ended.

Every function works in the transaction of its caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, policies, queries
from services.payments.errors import (
    ChargeDiffers,
    NotPaidByHand,
    PaymentMade,
    PaymentNotFound,
    PaymentNotPending,
)
from services.payments.events import announce
from services.payments.gateways import BY_HAND, Failure, Gateways, OnlineGateway, PaymentReport
from services.payments.models import PAID, Invoice, PaymentTransaction, Status
from services.payments.queries import NumberedPayment, PaymentBalance, PaymentFilter, PaymentViewer
from services.payments.schemas import PaymentTerms, plain
from services.payments.service import invoices, refunds
from services.payments.states import ExpectedPayment, contradiction_of, judge
from services.payments.telemetry import CONTRADICTIONS, QUARANTINED, SETTLED
from shared.actors import Actor
from shared.db import now
from shared.paging import Page
from shared.reads import Document, Reader

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment with its invoice's number, and what the actor who reads it is to the payment."""

    payment: PaymentTransaction
    invoice_number: str | None
    is_payer: bool
    is_staff: bool


def view_of(actor: Actor, row: NumberedPayment) -> PaymentView:
    """Return a payment as the actor may see it."""
    payment, number = row
    return PaymentView(
        payment,
        number,
        is_payer=policies.is_payer(actor, payment),
        is_staff=policies.can_view_payments(actor, payment.organization_id),
    )


def _viewer(actor: Actor) -> PaymentViewer:
    own = actor.organization_id
    staff_of = own if own is not None and policies.can_view_payments(actor, own) else None
    return PaymentViewer(actor.user_id, staff_of, actor.is_admin)


async def list_own(reader: Reader, actor: Actor, page: Page) -> bytes:
    """Return a page of the actor's own payments as JSON, newest first."""
    return await queries.page_of_own_payments(reader, _viewer(actor), page)


async def list_of_organization(
    reader: Reader, actor: Actor, organization_id: int, page: Page, only: PaymentFilter
) -> bytes:
    """Return a page of an organization's payments as JSON, newest first.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.page_of_payments(reader, _viewer(actor), page, organization_id, only)


async def get_payment(reader: Reader, actor: Actor, payment_id: int) -> Document:
    """Return a payment as JSON to its payer or to staff; raises PaymentNotFound."""
    document = await queries.find_document(reader, _viewer(actor), payment_id)
    if document is None:
        raise PaymentNotFound
    access.require_visible(actor, document.facts)
    return document


async def get_balance(session: AsyncSession, voucher_id: int) -> PaymentBalance:
    """Return how much of a voucher's payment can be given back; raises PaymentNotFound."""
    balance = await queries.find_balance_of_voucher(session, voucher_id)
    if balance is None:
        raise PaymentNotFound
    return balance


async def open_missing(session: AsyncSession, gateways: Gateways, terms: PaymentTerms) -> None:
    """Open the payment of a voucher whose charge was never called, or whose call was lost."""
    if await queries.lock_payment_of_voucher(session, terms.voucher_id) is None:
        await open_payment(session, gateways, terms, attempting=False)


async def open_payment(
    session: AsyncSession, gateways: Gateways, terms: PaymentTerms, *, attempting: bool
) -> PaymentTransaction:
    """Return the payment of a voucher, created if there is none; what costs nothing is paid.

    `attempting` states that a card is charged next. A new payment is written by the next flush.
    Raises ChargeDiffers when there is a payment of other terms.
    """
    await queries.lock_voucher(session, terms.voucher_id)
    existing = await queries.lock_payment_of_voucher(session, terms.voucher_id)
    if existing is not None:
        names = ("organization_id", "client_id", "amount", "currency")
        if any(getattr(existing, name) != getattr(terms, name) for name in names):
            raise ChargeDiffers
        return existing
    gateway = gateways.for_method(terms.payment_method) if terms.amount else gateways.named(BY_HAND)
    attempting = attempting and isinstance(gateway, OnlineGateway)
    payment = PaymentTransaction(
        **terms.model_dump(include=set(PaymentTerms.model_fields) - {"buyer", "seller"}),
        buyer=plain(terms.buyer),
        seller=plain(terms.seller),
        payment_gateway=gateway.name,
        status=Status.PROCESSING if attempting else Status.PENDING,
    )
    session.add(payment)
    announce(session, "CHARGE", payment)
    if not payment.amount:
        await session.flush()
        await _succeed(session, payment, Decimal(0))
    return payment


def begin_attempt(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Record that the gateway is about to be asked."""
    payment.checked_at = now()
    if payment.status == Status.PENDING:
        payment.status = Status.PROCESSING
        announce(session, "PROCESS", payment)


_ACTIONS: Mapping[Status, str] = {
    Status.PROCESSING: "PROCESS",
    Status.REQUIRES_ACTION: "REQUIRE_ACTION",
    Status.CANCELLED: "CANCEL",
}


async def apply_report(
    session: AsyncSession, payment: PaymentTransaction, report: PaymentReport, *, live: bool | None
) -> Invoice | None:
    """Apply a gateway's report to a payment; return the invoice if it was issued by this.

    The payment must be locked, or be as it was last committed: then StaleDataError is raised if it
    was changed since. An answer, a webhook and the reconciler all end here.
    """
    expected = ExpectedPayment(payment.amount, payment.currency, live)
    verdict = judge(Status(payment.status), expected, report)
    if verdict is None:
        reason = contradiction_of(expected, report)
        if reason is not None:
            report_contradiction(payment, reason)
        return None
    invoice = None
    payment.gateway_response = dict(report.raw)
    payment.next_action = dict(report.next_action) if report.next_action else None
    match verdict.status:
        case Status.SUCCEEDED:
            invoice = await _succeed(session, payment, report.captured)
        case Status.QUARANTINED:
            await quarantine_payment(session, payment, verdict.reason or "", report.captured)
        case Status.FAILED:
            failure = report.failure or Failure("payment_failed", "It failed.")
            fail_payment(session, payment, failure)
        case _:
            payment.status = verdict.status
            announce(session, _ACTIONS[verdict.status], payment)
    await session.flush()
    SETTLED.labels(payment.status).inc()
    return invoice


async def mark_paid(
    session: AsyncSession, actor: Actor, organization_id: int, payment_id: int, note: str | None
) -> PaymentView:
    """Record that staff received the money by hand or by bank transfer.

    Raises OrganizationNotFound, Forbidden, PaymentNotFound, NotPaidByHand, PaymentNotPending.
    """
    access.require_manager(actor, organization_id)
    payment = await queries.lock_payment(session, payment_id, organization_id)
    if payment.payment_gateway != BY_HAND:
        raise NotPaidByHand
    if payment.status != Status.PENDING or payment.void_requested_at is not None:
        raise PaymentNotPending
    payment.gateway_response = {"note": note}
    await _succeed(session, payment, payment.amount)
    SETTLED.labels(payment.status).inc()
    return view_of(actor, await queries.get_payment_with_number(session, payment_id))


async def _succeed(
    session: AsyncSession, payment: PaymentTransaction, captured: Decimal
) -> Invoice:
    payment.status = Status.SUCCEEDED
    payment.captured_amount = captured
    payment.completed_at = now()
    # The payment's row is locked before the series, as everywhere: else there would be deadlocks.
    await session.flush()
    invoice = await invoices.issue_invoice(session, payment)
    announce(
        session,
        "SUCCEED",
        payment,
        invoice_number=invoice.number,
        completed_at=payment.completed_at,
    )
    if payment.void_requested_at is not None:
        await refunds.give_back_all(session, payment)
    return invoice


async def quarantine_payment(
    session: AsyncSession, payment: PaymentTransaction, reason: str, captured: Decimal
) -> None:
    """Set a payment aside for a person: the gateway and our books do not agree."""
    payment.status = Status.QUARANTINED
    payment.quarantine_reason = reason
    payment.captured_amount = captured
    payment.completed_at = now()
    announce(session, "QUARANTINE", payment, reason=reason)
    # If another transaction was faster, this raises StaleDataError: it has counted the payment.
    await session.flush()
    QUARANTINED.inc()
    log.error("payment_quarantined", payment_id=payment.id, reason=reason)


def report_contradiction(payment: PaymentTransaction, reason: str) -> None:
    """Count and log what contradicts a payment whose state it cannot change any more."""
    if payment.status != Status.QUARANTINED:
        CONTRADICTIONS.inc()
        log.error("payment_contradicted", payment_id=payment.id, reason=reason)


def fail_payment(session: AsyncSession, payment: PaymentTransaction, failure: Failure) -> None:
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


def cancel_payment(session: AsyncSession, payment: PaymentTransaction) -> None:
    """End a payment that no gateway has; it must be unfinished."""
    payment.status = Status.CANCELLED
    payment.completed_at = now()
    announce(session, "CANCEL", payment)


async def close_by_hand(session: AsyncSession, voucher_id: int) -> None:
    """Forbid that staff mark a payment as paid whose voucher is about to be cancelled.

    The payment's lock decides which of the two comes first. Raises PaymentMade when the payment was
    marked before. A payment at a gateway stays as it is: its money goes back by itself.
    """
    payment = await queries.lock_payment_of_voucher(session, voucher_id)
    if payment is None or payment.payment_gateway != BY_HAND:
        return
    if payment.captured_amount > payment.refunded_amount:
        raise PaymentMade
    if payment.is_unfinished:
        payment.void_requested_at = payment.void_requested_at or now()


async def void_payment_of_voucher(session: AsyncSession, voucher_id: int) -> None:
    """End the payment of a voucher that was cancelled before it was active; safe to repeat.

    What the gateway has is cancelled there first, by the reconciler: only the gateway knows whether
    the money was faster. What was paid goes back.
    """
    payment = await queries.lock_payment_of_voucher(session, voucher_id)
    if payment is None:
        return
    if payment.is_unfinished and payment.gateway_transaction_id is None:
        cancel_payment(session, payment)
    elif payment.is_unfinished:
        payment.void_requested_at = payment.void_requested_at or now()
    elif payment.status in PAID:
        await refunds.give_back_all(session, payment)
