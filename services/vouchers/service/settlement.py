"""What a payment means for its voucher, whoever tells: payments' answer or payments' event.

Both tell of the same payment, in any order and more than once; the voucher's lock puts them in a
row, and only the first has an effect.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import OrganizationNotFound
from services.vouchers.models import PaymentStatus, Voucher, VoucherStatus
from services.vouchers.service import codes
from services.vouchers.service.calendar import day_in
from services.vouchers.service.vouchers import mark_cancelled
from shared.changes import record
from shared.db import now

PAYMENT_FAILED = "payment_failed"

_SETTLED = frozenset({PaymentStatus.PAID, PaymentStatus.REFUNDED, PaymentStatus.PARTIALLY_REFUNDED})
_RETURNED = frozenset({PaymentStatus.REFUNDED, PaymentStatus.PARTIALLY_REFUNDED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a payment stands: `status` is the transaction's, in payments' words."""

    status: str
    invoice_number: str | None = None
    completed_at: datetime | None = None
    amount: Decimal | None = None
    currency: str | None = None


class PaymentMismatch(RuntimeError):
    """A payment does not cover what its voucher costs: somebody must look at it."""


async def settle(session: AsyncSession, voucher_id: int, outcome: Outcome) -> Voucher:
    """Apply a payment's state to its voucher and return it, locked.

    Raises VoucherNotFound, PaymentMismatch when amount or currency are not the voucher's, and
    OrganizationNotFound when nothing tells which day it is where the voucher was sold.
    """
    voucher, zone = await queries.lock_voucher_with_zone(session, voucher_id)
    if outcome.status == "succeeded":
        _compare(voucher, outcome)
        await _paid(session, voucher, zone, outcome)
    elif outcome.status in ("failed", "cancelled"):
        _unpaid(session, voucher)
    await session.flush()
    return voucher


def _compare(voucher: Voucher, outcome: Outcome) -> None:
    amount, currency = outcome.amount, outcome.currency
    if amount is not None and amount != voucher.payment_amount:
        raise PaymentMismatch(f"voucher {voucher.id} costs something else")
    if currency is not None and currency.upper() != voucher.currency:
        raise PaymentMismatch(f"voucher {voucher.id} is sold in another currency")


async def _paid(
    session: AsyncSession, voucher: Voucher, zone: str | None, outcome: Outcome
) -> None:
    if voucher.payment_date is not None:
        _late_invoice(session, voucher, outcome)
        return
    if zone is None:
        raise OrganizationNotFound
    paid_at = outcome.completed_at or now()
    voucher.payment_date = paid_at
    voucher.invoice_number = outcome.invoice_number
    if voucher.payment_status not in _RETURNED:
        voucher.payment_status = PaymentStatus.PAID.value
    if voucher.status == VoucherStatus.PENDING:
        voucher.activate(day_in(zone, paid_at))
        record(session, "ACTIVATE", voucher)
        await session.flush()
        await codes.issue(session, voucher)
        if voucher.refunded_sessions:
            await codes.take_back(session, voucher, voucher.refunded_sessions)
    else:
        # It was cancelled meanwhile: payments has heard of that and gives the money back.
        record(session, "UPDATE", voucher)


def _late_invoice(session: AsyncSession, voucher: Voucher, outcome: Outcome) -> None:
    if voucher.invoice_number is None and outcome.invoice_number is not None:
        voucher.invoice_number = outcome.invoice_number
        record(session, "UPDATE", voucher)


def _unpaid(session: AsyncSession, voucher: Voucher) -> None:
    if voucher.payment_status != PaymentStatus.PENDING:
        return
    voucher.payment_status = PaymentStatus.FAILED.value
    if voucher.status == VoucherStatus.PENDING:
        mark_cancelled(session, voucher, PAYMENT_FAILED)
    else:
        record(session, "UPDATE", voucher)
