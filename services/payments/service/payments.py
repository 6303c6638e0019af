"""Payments: shown, opened for a voucher, changed by a gateway's report or by staff, ended.

Every function works in the transaction of its caller.
"""

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
from services.payments.events import announce, payment_fields
from services.payments.gateways import (
    BY_HAND,
    INSTALLATION_ACCOUNT,
    Gateway,
    GatewayAccount,
    Gateways,
    PaymentReport,
)
from services.payments.models import PAID, PaymentRow, PaymentTransaction, Status, row_of
from services.payments.queries import NumberedPayment, PaymentBalance, PaymentFilter, PaymentViewer
from services.payments.schemas import PaymentTerms, plain
from services.payments.service import invoices, refunds
from services.payments.states import (
    ExpectedPayment,
    PaymentStep,
    cancel,
    contradiction_of,
    judge,
    step_of,
    succeed,
)
from services.payments.telemetry import CONTRADICTIONS, QUARANTINED, SETTLED
from shared.actors import Actor
from shared.db import now
from shared.money import CENT
from shared.paging import Page
from shared.reads import Document, Reader
from shared.writes import Writes

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment with its invoice's number, and what the actor who reads it is to the payment."""

    payment: PaymentTransaction
    invoice_number: str | None
    is_payer: bool
    is_staff: bool


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A payment as it was written last, and the number of its invoice."""

    payment: PaymentRow
    invoice_number: str | None


def view_of(actor: Actor, row: NumberedPayment) -> PaymentView:
    """Return a payment as the actor may see it."""
    payment, number = row
    return PaymentView(
        payment,
        number,
        is_payer=policies.is_payer(actor, payment),
        is_staff=policies.can_view_payments(actor, payment.organization_id),
    )


def viewer_of(actor: Actor) -> PaymentViewer:
    """Return what the actor is to payments that are read: the same as `view_of` for one."""
    own = actor.organization_id
    staff_of = own if own is not None and policies.can_view_payments(actor, own) else None
    return PaymentViewer(actor.user_id, staff_of, actor.is_admin)


async def list_own(reader: Reader, actor: Actor, page: Page) -> bytes:
    """Return a page of the actor's own payments as JSON, newest first."""
    return await queries.page_of_own_payments(reader, viewer_of(actor), page)


async def list_of_organization(
    reader: Reader, actor: Actor, organization_id: int, page: Page, only: PaymentFilter
) -> bytes:
    """Return a page of an organization's payments as JSON, newest first.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.page_of_payments(reader, viewer_of(actor), page, organization_id, only)


async def get_payment(reader: Reader, actor: Actor, payment_id: int) -> Document:
    """Return a payment as JSON to its payer or to staff; raises PaymentNotFound."""
    document = await queries.find_document(reader, viewer_of(actor), payment_id)
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

    `attempting` states that a card is charged next. Raises ChargeDiffers when there is a payment of
    other terms.
    """
    await queries.lock_voucher(session, terms.voucher_id)
    existing = await queries.lock_payment_of_voucher(session, terms.voucher_id)
    if existing is not None:
        names = ("organization_id", "client_id", "amount", "currency")
        if any(getattr(existing, name) != getattr(terms, name) for name in names):
            raise ChargeDiffers
        return existing
    gateway = gateways.for_method(terms.payment_method) if terms.amount else gateways.named(BY_HAND)
    is_online = gateways.online(gateway.name) is not None
    status = Status.PROCESSING if attempting and is_online else Status.PENDING
    row = await insert_payment(session, terms, gateway, status=status)
    if not terms.amount:
        await take_step(session, row, succeed(Decimal(0)))
    return await queries.get_payment(session, row["id"])


async def insert_payment(
    session: AsyncSession,
    terms: PaymentTerms,
    gateway: Gateway,
    *,
    status: Status,
    gateway_id: str | None = None,
    account: GatewayAccount = INSTALLATION_ACCOUNT,
    fee: Decimal = Decimal(0),
) -> PaymentRow:
    """Store the payment of a voucher that has none. The voucher must be locked.

    `account` is the account at the gateway that has `gateway_id`, `fee` what the operator takes.
    """
    values = {
        "organization_id": terms.organization_id,
        "voucher_id": terms.voucher_id,
        "client_id": terms.client_id,
        "amount": terms.amount,
        "currency": terms.currency,
        "payment_method": terms.payment_method,
        "description": terms.description,
        "buyer": plain(terms.buyer),
        "seller": plain(terms.seller),
        "payment_gateway": gateway.name,
        "gateway_transaction_id": gateway_id,
        "gateway_account": account.id,
        "platform_fee": fee,
        "status": status,
    }
    writes = Writes(session)
    payment = writes.insert(PaymentTransaction, values, action="CHARGE")
    await writes.send()
    return payment.values


def begin_attempt(session: AsyncSession, payment: PaymentTransaction) -> None:
    """Record that the gateway is about to be asked."""
    payment.checked_at = now()
    if payment.status == Status.PENDING:
        payment.status = Status.PROCESSING
        announce(session, "PROCESS", payment)


async def apply_report(
    session: AsyncSession, payment: PaymentRow, report: PaymentReport, *, live: bool | None
) -> NumberedRow | None:
    """Apply a gateway's report to a payment; return None if it changes nothing.

    The payment must be as it was last committed or flushed: StaleDataError is raised if another
    transaction has changed it since. An answer, a webhook and the reconciler all end here.
    """
    expected = ExpectedPayment(
        payment["amount"], payment["currency"], live, payment["gateway_account"]
    )
    verdict = judge(Status(payment["status"]), expected, report)
    if verdict is None:
        reason = contradiction_of(expected, report)
        if reason is not None:
            report_contradiction(payment, reason)
        return None
    result = await take_step(session, payment, step_of(verdict, report))
    SETTLED.labels(verdict.status).inc()
    return result


async def take_step(session: AsyncSession, payment: PaymentRow, step: PaymentStep) -> NumberedRow:
    """Change a payment by a step; a payment that succeeds gets its invoice.

    Raises StaleDataError if another transaction has changed the payment since it was read.
    """
    writes, details, number = Writes(session), dict(step.details), None
    if step.status == Status.SUCCEEDED:
        number = await invoices.add_invoice(writes, session, payment)
        fee = payment["platform_fee"].quantize(CENT)
        details |= {"invoice_number": number, "platform_fee": fee}
    columns = {"status": step.status, **step.columns}
    details = payment_fields({**payment, **columns}) | details
    row = writes.change(PaymentTransaction, payment, columns, action=step.action, details=details)
    await writes.send()
    if step.status == Status.QUARANTINED:
        QUARANTINED.inc()
        log.error("payment_quarantined", payment_id=payment["id"], **step.details)
    if step.status == Status.SUCCEEDED and payment["void_requested_at"] is not None:
        await refunds.give_back_all(session, await queries.lock_payment(session, payment["id"]))
    return NumberedRow(row.values, number)


async def change_payment(
    session: AsyncSession, payment: PaymentTransaction, step: PaymentStep
) -> None:
    """Change a locked payment by a step."""
    await session.flush()
    await take_step(session, row_of(payment), step)
    await session.refresh(payment)


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
    step = succeed(payment.amount).with_columns(gateway_response={"note": note})
    await change_payment(session, payment, step)
    SETTLED.labels(payment.status).inc()
    return view_of(actor, await queries.get_payment_with_number(session, payment_id))


def report_contradiction(payment: PaymentRow, reason: str) -> None:
    """Count and log what contradicts a payment whose state it cannot change any more."""
    if payment["status"] != Status.QUARANTINED:
        CONTRADICTIONS.inc()
        log.error("payment_contradicted", payment_id=payment["id"], reason=reason)


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
        await change_payment(session, payment, cancel())
    elif payment.is_unfinished:
        payment.void_requested_at = payment.void_requested_at or now()
    elif payment.status in PAID:
        await refunds.give_back_all(session, payment)
