"""What is left of a payment, read at one instant and without a lock."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import PaymentTransaction, Refund, RefundStatus


@dataclass(frozen=True, slots=True)
class Balance:
    """A payment at one instant: what was `returned` or is promised, and the `pending` part of it
    that is promised only."""

    payment: PaymentTransaction
    returned: Decimal
    pending: Decimal

    @property
    def refundable(self) -> Decimal:
        """What was captured and neither given back nor promised nor disputed."""
        kept = self.payment.captured_amount - self.returned - self.payment.disputed_amount
        return max(kept, Decimal(0))


async def balance_of_voucher(session: AsyncSession, voucher_id: int) -> Balance | None:
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
    found = (await session.execute(statement)).one_or_none()
    return Balance(*found) if found else None
