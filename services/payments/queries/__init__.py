"""Every select of this service, the reports' and balances' aside."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, extract, func, or_, select, union, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import policies
from services.payments.errors import InvoiceNotFound, PaymentNotFound
from services.payments.gateways.manual import BY_HAND
from services.payments.models import (
    Dispute,
    Invoice,
    InvoiceKind,
    PaymentTransaction,
    Refund,
    RefundStatus,
    SellerChanges,
    WebhookEvent,
)
from services.payments.states import UNFINISHED, Status
from shared.actors import Actor
from shared.db import now
from shared.paging import Page

Found = Row[PaymentTransaction, str | None]

_NUMBER = (
    select(Invoice.number)
    .where(
        Invoice.transaction_id == PaymentTransaction.id,
        Invoice.kind == InvoiceKind.INVOICE,
    )
    .scalar_subquery()
)


LONGEST_PAUSE = timedelta(minutes=10)
"""Nothing is left unasked for longer."""


def readable_by(actor: Actor) -> ColumnElement[bool]:
    """Return the condition for payments that the actor may see."""
    own = PaymentTransaction.client_id == actor.user_id
    if actor.is_admin:
        return PaymentTransaction.id.is_not(None)
    organization_id = actor.organization_id
    if organization_id is not None and policies.can_view_payments(actor, organization_id):
        return or_(own, PaymentTransaction.organization_id == organization_id)
    return own


async def lock(session: AsyncSession, payment_id: int) -> PaymentTransaction:
    """Return a payment, locked for a change; raises PaymentNotFound."""
    payment = await session.get(
        PaymentTransaction, payment_id, with_for_update=True, populate_existing=True
    )
    if payment is None:
        raise PaymentNotFound
    return payment


async def get(session: AsyncSession, payment_id: int) -> PaymentTransaction:
    """Return a payment; raises PaymentNotFound."""
    payment = await session.get(PaymentTransaction, payment_id)
    if payment is None:
        raise PaymentNotFound
    return payment


async def lock_voucher(session: AsyncSession, voucher_id: int) -> None:
    """Let nobody else make a payment for this voucher until we have."""
    key = func.hashtextextended(f"voucher/{voucher_id}", 3)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def lock_of_voucher(session: AsyncSession, voucher_id: int) -> PaymentTransaction | None:
    """Return a voucher's payment, locked, or None."""
    statement = (
        select(PaymentTransaction)
        .where(PaymentTransaction.voucher_id == voucher_id)
        .order_by(PaymentTransaction.id.desc())
        .limit(1)
        .with_for_update()
    )
    return await session.scalar(statement)


async def lock_by_gateway_id(
    session: AsyncSession, gateway: str, gateway_id: str
) -> PaymentTransaction | None:
    """Return the payment that a gateway knows by this id, locked, or None."""
    statement = select(PaymentTransaction).where(
        PaymentTransaction.payment_gateway == gateway,
        PaymentTransaction.gateway_transaction_id == gateway_id,
    )
    return await session.scalar(statement.with_for_update())


async def lock_named(
    session: AsyncSession, gateway: str, payment_id: int
) -> PaymentTransaction | None:
    """Return a payment of this gateway by our own id, locked, or None."""
    statement = select(PaymentTransaction).where(
        PaymentTransaction.id == payment_id, PaymentTransaction.payment_gateway == gateway
    )
    return await session.scalar(statement.with_for_update())


async def get_with_number(session: AsyncSession, payment_id: int) -> Found:
    """Return a payment and its invoice's number; raises PaymentNotFound."""
    statement = select(PaymentTransaction, _NUMBER).where(PaymentTransaction.id == payment_id)
    found = (await session.execute(statement)).one_or_none()
    if found is None:
        raise PaymentNotFound
    return found


async def page_of_payments(
    session: AsyncSession, page: Page, *conditions: ColumnElement[bool]
) -> list[Found]:
    """Return a page of payments with their invoices' numbers, newest first."""
    wanted: Select[Any] = select(PaymentTransaction, _NUMBER).where(*conditions)
    rows = (await session.execute(page.of(wanted, PaymentTransaction.id))).all()
    return page.cut(rows, lambda row: (row[0].id,))


def within(
    organization_id: int,
    *,
    status: Status | None,
    method: str | None,
    client_id: int | None,
    since: datetime | None,
    until: datetime | None,
) -> list[ColumnElement[bool]]:
    """Return the conditions of an organization's list; `until` itself is not included."""
    column = PaymentTransaction
    conditions: list[ColumnElement[bool]] = [column.organization_id == organization_id]
    if status is not None:
        conditions.append(column.status == status)
    if method is not None:
        conditions.append(column.payment_method == method)
    if client_id is not None:
        conditions.append(column.client_id == client_id)
    if since is not None:
        conditions.append(column.created_at >= since)
    if until is not None:
        conditions.append(column.created_at < until)
    return conditions


async def get_invoice(session: AsyncSession, payment_id: int) -> Invoice:
    """Return a payment's invoice; raises InvoiceNotFound."""
    invoice = await find_invoice(session, payment_id)
    if invoice is None:
        raise InvoiceNotFound
    return invoice


async def find_invoice(session: AsyncSession, payment_id: int) -> Invoice | None:
    """Return a payment's invoice, or None."""
    return await session.scalar(
        select(Invoice).where(
            Invoice.transaction_id == payment_id, Invoice.kind == InvoiceKind.INVOICE
        )
    )


async def lock_series(session: AsyncSession, organization_id: int, kind: InvoiceKind) -> None:
    """Let nobody else issue a document of this kind for the organization until we have.

    The series' own row does not do: it is one per year, and the year is known only afterwards.
    """
    key = func.hashtextextended(f"series/{organization_id}/{kind}", 3)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def last_document(
    session: AsyncSession, organization_id: int, kind: InvoiceKind
) -> Invoice | None:
    """Return the document with an organization's highest number of this kind, or None."""
    statement = (
        select(Invoice)
        .where(Invoice.organization_id == organization_id, Invoice.kind == kind)
        .order_by(Invoice.year.desc(), Invoice.sequence.desc())
        .limit(1)
    )
    return await session.scalar(statement)


async def page_of_invoices(
    session: AsyncSession, page: Page, organization_id: int, kind: InvoiceKind | None
) -> Sequence[Invoice]:
    """Return a page of an organization's invoices and credit notes, newest first."""
    statement = select(Invoice).where(Invoice.organization_id == organization_id)
    if kind is not None:
        statement = statement.where(Invoice.kind == kind)
    rows = (await session.scalars(page.of(statement, Invoice.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def get_document(session: AsyncSession, organization_id: int, invoice_id: int) -> Invoice:
    """Return an organization's invoice or credit note; raises InvoiceNotFound."""
    document = await session.get(Invoice, invoice_id)
    if document is None or document.organization_id != organization_id:
        raise InvoiceNotFound
    return document


async def credit_notes_of(session: AsyncSession, payment_id: int) -> Sequence[Invoice]:
    """Return a payment's credit notes, oldest first."""
    statement = select(Invoice).where(
        Invoice.transaction_id == payment_id, Invoice.kind == InvoiceKind.CREDIT_NOTE
    )
    return (await session.scalars(statement.order_by(Invoice.id))).all()


async def refunds_of(session: AsyncSession, payment_id: int) -> Sequence[Refund]:
    """Return a payment's refunds, oldest first."""
    statement = select(Refund).where(Refund.transaction_id == payment_id).order_by(Refund.id)
    return (await session.scalars(statement)).all()


async def find_refund_of_quote(session: AsyncSession, quote_id: int) -> Refund | None:
    """Return the refund that was made from a quote, or None."""
    return await session.scalar(select(Refund).where(Refund.quote_id == quote_id))


async def find_dispute(session: AsyncSession, gateway: str, gateway_id: str) -> Dispute | None:
    """Return the dispute that a gateway knows by this id, or None."""
    statement = select(Dispute).where(
        Dispute.payment_gateway == gateway, Dispute.gateway_dispute_id == gateway_id
    )
    return await session.scalar(statement)


async def disputes_of(session: AsyncSession, payment_id: int) -> Sequence[Dispute]:
    """Return a payment's disputes, oldest first."""
    statement = select(Dispute).where(Dispute.transaction_id == payment_id).order_by(Dispute.id)
    return (await session.scalars(statement)).all()


async def page_of_disputes(
    session: AsyncSession, page: Page, organization_id: int, status: str | None
) -> Sequence[Dispute]:
    """Return a page of an organization's disputes, newest first."""
    statement = select(Dispute).where(Dispute.organization_id == organization_id)
    if status is not None:
        statement = statement.where(Dispute.status == status)
    rows = (await session.scalars(page.of(statement, Dispute.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def changes_of_seller(session: AsyncSession, organization_id: int) -> dict[str, Any]:
    """Return what changed of an organization, each field as it is now."""
    statement = select(SellerChanges.changes).where(
        SellerChanges.organization_id == organization_id
    )
    return await session.scalar(statement) or {}


async def lock_refund(session: AsyncSession, refund_id: int) -> Refund | None:
    """Return a refund, locked, or None."""
    return await session.get(Refund, refund_id, with_for_update=True, populate_existing=True)


async def get_refund(session: AsyncSession, refund_id: int) -> Refund:
    """Return a refund as it is now; raises PaymentNotFound."""
    refund = await session.get(Refund, refund_id, populate_existing=True)
    if refund is None:
        raise PaymentNotFound
    return refund


async def waiting_webhooks(
    session: AsyncSession, gateways: Sequence[str], moment: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of these gateways' webhooks that are due, oldest first."""
    statement = (
        select(WebhookEvent.id)
        .where(WebhookEvent.next_attempt_at <= moment, WebhookEvent.gateway.in_(gateways))
        .order_by(WebhookEvent.next_attempt_at, WebhookEvent.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def lock_waiting_webhook(session: AsyncSession, webhook_id: int) -> WebhookEvent | None:
    """Return a webhook that nobody else is dealing with, locked, or None."""
    statement = select(WebhookEvent).where(
        WebhookEvent.id == webhook_id, WebhookEvent.next_attempt_at.is_not(None)
    )
    return await session.scalar(statement.with_for_update(skip_locked=True))


async def forget_webhook_bodies(session: AsyncSession, before: datetime, limit: int) -> int:
    """Empty the bodies of some finished webhooks that came before an instant; return how many."""
    chosen = (
        select(WebhookEvent.id)
        .where(
            WebhookEvent.body.is_not(None),
            WebhookEvent.received_at < before,
            WebhookEvent.next_attempt_at.is_(None),
        )
        .limit(limit)
    )
    statement = update(WebhookEvent).where(WebhookEvent.id.in_(chosen)).values(body=None)
    found = statement.returning(WebhookEvent.id).execution_options(synchronize_session=False)
    return len((await session.scalars(found)).all())


async def unfinished_before(
    session: AsyncSession, gateways: Sequence[str], checked_before: datetime, limit: int
) -> Sequence[PaymentTransaction]:
    """Return payments that wait for a gateway and were left alone since, locked, longest first.

    The longer a payment waits for its payer, the more seldom it is asked about.
    """
    moment, payment = now(), PaymentTransaction
    idle = extract("epoch", moment - payment.checked_at)
    age = extract("epoch", moment - payment.created_at)
    statement = (
        select(payment)
        .where(
            payment.status.in_(UNFINISHED),
            payment.payment_gateway.in_(gateways),
            payment.checked_at < checked_before,
            or_(
                idle > func.least(age / 10, LONGEST_PAUSE.total_seconds()),
                payment.void_requested_at.is_not(None),
            ),
        )
        .order_by(PaymentTransaction.checked_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


async def closed_before(
    session: AsyncSession, instant: datetime, limit: int
) -> Sequence[PaymentTransaction]:
    """Return payments by hand that were closed before an instant and have not ended, locked."""
    payment = PaymentTransaction
    statement = (
        select(payment)
        .where(
            payment.status.in_(UNFINISHED),
            payment.payment_gateway == BY_HAND,
            payment.void_requested_at < instant,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


async def pending_refunds_before(
    session: AsyncSession, gateways: Sequence[str], attempted_before: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of these gateways' refunds that nobody is working on, longest first."""
    attempted = Refund.attempted_at
    statement = (
        select(Refund.id)
        .where(
            Refund.status == RefundStatus.PENDING,
            Refund.payment_gateway.in_(gateways),
            or_(attempted.is_(None), attempted < attempted_before),
        )
        .order_by(attempted.nulls_first(), Refund.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def gateways_waited_for(session: AsyncSession) -> Sequence[str]:
    """Return the names of the gateways that unfinished payments, refunds or webhooks are with."""
    payment = PaymentTransaction
    statement = union(
        select(payment.payment_gateway).where(payment.status.in_(UNFINISHED)),
        select(Refund.payment_gateway).where(Refund.status == RefundStatus.PENDING),
        select(WebhookEvent.gateway).where(WebhookEvent.next_attempt_at.is_not(None)),
    )
    return (await session.scalars(statement)).all()
