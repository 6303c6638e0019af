"""Queries of payments."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, extract, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import PaymentNotFound
from services.payments.gateways.manual import BY_HAND
from services.payments.models import (
    Invoice,
    InvoiceKind,
    PaymentTransaction,
    Refund,
    RefundStatus,
    WebhookEvent,
)
from services.payments.states import UNFINISHED, Status
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


async def lock_payment(session: AsyncSession, payment_id: int) -> PaymentTransaction:
    """Return a payment, locked for a change; raises PaymentNotFound."""
    payment = await session.get(
        PaymentTransaction, payment_id, with_for_update=True, populate_existing=True
    )
    if payment is None:
        raise PaymentNotFound
    return payment


async def get_payment(session: AsyncSession, payment_id: int) -> PaymentTransaction:
    """Return a payment; raises PaymentNotFound."""
    payment = await session.get(PaymentTransaction, payment_id)
    if payment is None:
        raise PaymentNotFound
    return payment


async def lock_voucher(session: AsyncSession, voucher_id: int) -> None:
    """Let nobody else make a payment for this voucher until we have."""
    key = func.hashtextextended(f"voucher/{voucher_id}", 3)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def lock_payment_of_voucher(
    session: AsyncSession, voucher_id: int
) -> PaymentTransaction | None:
    """Return a voucher's payment, locked, or None."""
    statement = (
        select(PaymentTransaction)
        .where(PaymentTransaction.voucher_id == voucher_id)
        .order_by(PaymentTransaction.id.desc())
        .limit(1)
        .with_for_update()
    )
    return await session.scalar(statement)


async def lock_payment_by_gateway_id(
    session: AsyncSession, gateway: str, gateway_id: str
) -> PaymentTransaction | None:
    """Return the payment that a gateway knows by this id, locked, or None."""
    statement = select(PaymentTransaction).where(
        PaymentTransaction.payment_gateway == gateway,
        PaymentTransaction.gateway_transaction_id == gateway_id,
    )
    return await session.scalar(statement.with_for_update())


async def lock_payment_of_gateway(
    session: AsyncSession, gateway: str, payment_id: int
) -> PaymentTransaction | None:
    """Return a payment of this gateway by our own id, locked, or None."""
    statement = select(PaymentTransaction).where(
        PaymentTransaction.id == payment_id, PaymentTransaction.payment_gateway == gateway
    )
    return await session.scalar(statement.with_for_update())


async def get_payment_with_number(session: AsyncSession, payment_id: int) -> Found:
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


async def lock_unfinished_payments(
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


async def lock_closed_payments(
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


async def list_awaited_gateways(session: AsyncSession) -> Sequence[str]:
    """Return the names of the gateways that unfinished payments, refunds or webhooks are with."""
    payment = PaymentTransaction
    statement = union(
        select(payment.payment_gateway).where(payment.status.in_(UNFINISHED)),
        select(Refund.payment_gateway).where(Refund.status == RefundStatus.PENDING),
        select(WebhookEvent.gateway).where(WebhookEvent.next_attempt_at.is_not(None)),
    )
    return (await session.scalars(statement)).all()
