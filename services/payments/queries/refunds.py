"""Queries of refunds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import PaymentNotFound
from services.payments.models import (
    PaymentTransaction,
    Refund,
    RefundStatus,
)
from services.payments.schemas import RefundRead
from shared.reads import JsonQuery, Reader

_LIST = JsonQuery(
    RefundRead,
    select().select_from(Refund).where(Refund.transaction_id == bindparam("payment_id")),
    dict(Refund.__table__.columns),
    order=(Refund.id,),
    newest_first=False,
)


async def list_refunds(reader: Reader, payment_id: int) -> bytes:
    """Return a payment's refunds as JSON, oldest first."""
    return await _LIST.list(reader, payment_id=payment_id)


async def refunds_of(session: AsyncSession, payment_id: int) -> Sequence[Refund]:
    """Return a payment's refunds, oldest first."""
    statement = select(Refund).where(Refund.transaction_id == payment_id).order_by(Refund.id)
    return (await session.scalars(statement)).all()


async def find_refund_of_quote(session: AsyncSession, quote_id: int) -> Refund | None:
    """Return the refund that was made from a quote, or None."""
    return await session.scalar(select(Refund).where(Refund.quote_id == quote_id))


async def lock_refund(session: AsyncSession, refund_id: int) -> Refund | None:
    """Return a refund, locked, or None."""
    return await session.get(Refund, refund_id, with_for_update=True, populate_existing=True)


async def get_refund(session: AsyncSession, refund_id: int) -> Refund:
    """Return a refund as it is now; raises PaymentNotFound."""
    refund = await session.get(Refund, refund_id, populate_existing=True)
    if refund is None:
        raise PaymentNotFound
    return refund


async def list_pending_refunds(
    session: AsyncSession, gateways: Sequence[str], attempted_before: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of these gateways' refunds that no process is working on.

    The one of each organization that waits longest is first, then the second one of each.
    """
    attempted_at = Refund.attempted_at
    waiting = (attempted_at.nulls_first(), Refund.id)
    place = func.row_number().over(partition_by=Refund.organization_id, order_by=waiting)
    statement = (
        select(Refund.id)
        .where(
            Refund.status == RefundStatus.PENDING,
            Refund.payment_gateway.in_(gateways),
            or_(attempted_at.is_(None), attempted_at < attempted_before),
        )
        .order_by(place, *waiting)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


@dataclass(frozen=True, slots=True)
class PaymentBalance:
    """A payment at one instant, with sums of its refunds.

    `returned` is the sum of the made and the pending refunds, `pending` that of the pending ones.
    """

    payment: PaymentTransaction
    returned: Decimal
    pending: Decimal

    @property
    def refundable(self) -> Decimal:
        """What was captured and is neither refunded, nor in a pending refund, nor disputed."""
        balance = self.payment.captured_amount - self.returned - self.payment.disputed_amount
        return max(balance, Decimal(0))


async def find_balance_of_voucher(session: AsyncSession, voucher_id: int) -> PaymentBalance | None:
    """Return a voucher's payment with the sums of its refunds, or None.

    One statement, and so one instant: payment and refunds fit together without a lock.
    """
    of_payment = Refund.transaction_id == PaymentTransaction.id
    total = select(func.coalesce(func.sum(Refund.amount), 0)).where(of_payment)
    statement = (
        select(
            PaymentTransaction,
            total.where(Refund.status != RefundStatus.FAILED).scalar_subquery(),
            total.where(Refund.status == RefundStatus.PENDING).scalar_subquery(),
        )
        .where(PaymentTransaction.voucher_id == voucher_id)
        .order_by(PaymentTransaction.id.desc())
        .limit(1)
    )
    row = (await session.execute(statement)).one_or_none()
    return PaymentBalance(*row) if row else None
