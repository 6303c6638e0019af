"""Queries of payments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    bindparam,
    extract,
    func,
    or_,
    select,
    union,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import PaymentNotFound
from services.payments.gateways import BY_HAND
from services.payments.models import (
    UNFINISHED,
    Invoice,
    InvoiceKind,
    Method,
    PaymentTransaction,
    Refund,
    RefundStatus,
    Status,
    WebhookEvent,
)
from shared.db import now
from shared.paging import Page

NumberedPayment = Row[PaymentTransaction, str | None]
"""A payment and the number of its invoice."""


_NUMBER = (
    select(Invoice.number)
    .where(
        Invoice.transaction_id == PaymentTransaction.id,
        Invoice.kind == InvoiceKind.INVOICE,
    )
    .scalar_subquery()
)


_WITH_PAYMENT = select(PaymentTransaction.voucher_id).where(
    PaymentTransaction.voucher_id == func.any(bindparam("voucher_ids", type_=ARRAY(BigInteger)))
)


_LONGEST_PAUSE = timedelta(minutes=10)
"""The gateway is asked about every unfinished payment at least this often."""


async def lock_payment(
    session: AsyncSession, payment_id: int, organization_id: int | None = None
) -> PaymentTransaction:
    """Return a payment, locked for a change.

    Raises PaymentNotFound, also for a payment of another organization than a given one.
    """
    payment = await session.get(
        PaymentTransaction, payment_id, with_for_update=True, populate_existing=True
    )
    if payment is None or organization_id not in (None, payment.organization_id):
        raise PaymentNotFound
    return payment


async def get_payment(
    session: AsyncSession, payment_id: int, organization_id: int | None = None
) -> PaymentTransaction:
    """Return a payment.

    Raises PaymentNotFound, also for a payment of another organization than a given one.
    """
    payment = await session.get(PaymentTransaction, payment_id)
    if payment is None or organization_id not in (None, payment.organization_id):
        raise PaymentNotFound
    return payment


_LOCK_VOUCHER = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name"), 3)))


async def lock_voucher(session: AsyncSession, voucher_id: int) -> None:
    """Keep other transactions from creating a payment for this voucher."""
    await session.execute(_LOCK_VOUCHER, {"name": f"voucher/{voucher_id}"})


_LOCK_PAYMENT_OF_VOUCHER = (
    select(PaymentTransaction)
    .where(PaymentTransaction.voucher_id == bindparam("voucher_id"))
    .order_by(PaymentTransaction.id.desc())
    .limit(1)
    .with_for_update()
)


async def lock_payment_of_voucher(
    session: AsyncSession, voucher_id: int
) -> PaymentTransaction | None:
    """Return a voucher's payment, locked, or None."""
    return await session.scalar(_LOCK_PAYMENT_OF_VOUCHER, {"voucher_id": voucher_id})


_LOCK_PAYMENT_BY_GATEWAY_ID = (
    select(PaymentTransaction)
    .where(
        PaymentTransaction.payment_gateway == bindparam("gateway"),
        PaymentTransaction.gateway_transaction_id == bindparam("gateway_id"),
    )
    .with_for_update()
)


async def list_vouchers_with_payment(session: AsyncSession, voucher_ids: Sequence[int]) -> set[int]:
    """Return those of some vouchers that have a payment. Nothing is locked."""
    return set(await session.scalars(_WITH_PAYMENT, {"voucher_ids": voucher_ids}))


async def lock_payment_by_gateway_id(
    session: AsyncSession, gateway: str, gateway_id: str
) -> PaymentTransaction | None:
    """Return the payment that has this id at a gateway, locked, or None."""
    parameters = {"gateway": gateway, "gateway_id": gateway_id}
    return await session.scalar(_LOCK_PAYMENT_BY_GATEWAY_ID, parameters)


async def lock_payment_of_gateway(
    session: AsyncSession, gateway: str, payment_id: int
) -> PaymentTransaction | None:
    """Return a payment of this gateway by our own id, locked, or None."""
    statement = select(PaymentTransaction).where(
        PaymentTransaction.id == payment_id, PaymentTransaction.payment_gateway == gateway
    )
    return await session.scalar(statement.with_for_update())


_NUMBERED_PAYMENT = select(PaymentTransaction, _NUMBER).where(
    PaymentTransaction.id == bindparam("payment_id")
)


async def get_payment_with_number(session: AsyncSession, payment_id: int) -> NumberedPayment:
    """Return a payment and its invoice's number; raises PaymentNotFound."""
    row = (await session.execute(_NUMBERED_PAYMENT, {"payment_id": payment_id})).one_or_none()
    if row is None:
        raise PaymentNotFound
    return row


async def page_of_own_payments(
    session: AsyncSession, page: Page, client_id: int
) -> list[NumberedPayment]:
    """Return a page of a client's payments with their invoices' numbers, newest first."""
    return await _page(session, page, PaymentTransaction.client_id == client_id)


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """Which payments of an organization are listed: created from `since` until before `until`."""

    status: Status | None = None
    method: Method | None = None
    client_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield the SQL conditions."""
        payment = PaymentTransaction
        if self.status is not None:
            yield payment.status == self.status
        if self.method is not None:
            yield payment.payment_method == self.method
        if self.client_id is not None:
            yield payment.client_id == self.client_id
        if self.since is not None:
            yield payment.created_at >= self.since
        if self.until is not None:
            yield payment.created_at < self.until


async def page_of_payments(
    session: AsyncSession, page: Page, organization_id: int, only: PaymentFilter
) -> list[NumberedPayment]:
    """Return a page of an organization's payments with their invoices' numbers, newest first."""
    is_own = PaymentTransaction.organization_id == organization_id
    return await _page(session, page, is_own, *only.conditions())


async def _page(
    session: AsyncSession, page: Page, *conditions: ColumnElement[bool]
) -> list[NumberedPayment]:
    statement: Select[Any] = select(PaymentTransaction, _NUMBER).where(*conditions)
    rows = (await session.execute(page.of(statement, PaymentTransaction.id))).all()
    return page.cut(rows, lambda row: (row[0].id,))


async def lock_unfinished_payments(
    session: AsyncSession, gateways: Sequence[str], checked_before: datetime, limit: int
) -> Sequence[PaymentTransaction]:
    """Return payments that wait for a gateway and are due for a check, locked, longest first.

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
                idle > func.least(age / 10, _LONGEST_PAUSE.total_seconds()),
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
    """Return payments by hand that were closed before an instant and are unfinished, locked."""
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
    """Return the names of the gateways of unfinished payments, refunds and webhooks."""
    payment = PaymentTransaction
    statement = union(
        select(payment.payment_gateway).where(payment.status.in_(UNFINISHED)),
        select(Refund.payment_gateway).where(Refund.status == RefundStatus.PENDING),
        select(WebhookEvent.gateway).where(WebhookEvent.next_attempt_at.is_not(None)),
    )
    return (await session.scalars(statement)).all()
