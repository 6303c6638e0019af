"""Apply the state of a payment to its voucher.

The state arrives twice, as the response of payments and as its event, in any order and perhaps
repeatedly. The voucher's lock serializes these reports, and only the first one has an effect.
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


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """The state of a payment as payments reports it; `status` is one of its statuses."""

    status: str
    invoice_number: str | None = None
    completed_at: datetime | None = None
    amount: Decimal | None = None
    currency: str | None = None


class PaymentMismatch(RuntimeError):
    """A payment has another amount or currency than its voucher: an operator must look at it."""


async def apply_payment(session: AsyncSession, voucher_id: int, report: PaymentReport) -> Voucher:
    """Apply a payment's state to its voucher and return the voucher, locked.

    Raises VoucherNotFound, PaymentMismatch, and OrganizationNotFound when there is no copy of the
    organization, whose time zone decides on which day the voucher becomes valid.
    """
    voucher, zone = await queries.lock_voucher_with_zone(session, voucher_id)
    if report.status == "succeeded":
        await _apply_success(session, voucher, zone, report)
    elif report.status in ("failed", "cancelled"):
        _apply_failure(session, voucher)
    await session.flush()
    return voucher


async def activate(
    session: AsyncSession, voucher: Voucher, zone: str, report: PaymentReport
) -> queries.Rows:
    """Apply a success to a pending voucher of an earlier transaction, and return its new codes.

    The voucher is neither read nor locked again: its version is compared instead. Raises
    StaleDataError if it has changed since; the transaction must be rolled back then.
    """
    session.add(voucher)
    return await _activate(session, voucher, zone, report)


async def _apply_success(
    session: AsyncSession, voucher: Voucher, zone: str | None, report: PaymentReport
) -> None:
    if report.amount is not None and report.amount != voucher.payment_amount:
        raise PaymentMismatch(f"voucher {voucher.id} has another price")
    if report.currency is not None and report.currency.upper() != voucher.currency:
        raise PaymentMismatch(f"voucher {voucher.id} has another currency")
    if voucher.payment_date is not None:
        # The payment was applied before; its invoice may have been written since.
        if voucher.invoice_number is None and report.invoice_number is not None:
            voucher.invoice_number = report.invoice_number
            record(session, "UPDATE", voucher)
        return
    if zone is None:
        raise OrganizationNotFound
    if voucher.status == VoucherStatus.PENDING:
        await _activate(session, voucher, zone, report)
    else:
        # The voucher was cancelled meanwhile: payments receives that event and refunds the money.
        _mark_paid(voucher, report)
        record(session, "UPDATE", voucher)


async def _activate(
    session: AsyncSession, voucher: Voucher, zone: str, report: PaymentReport
) -> queries.Rows:
    voucher.activate(day_in(zone, _mark_paid(voucher, report)))
    record(session, "ACTIVATE", voucher)
    await session.flush()
    new_codes = await codes.issue(session, voucher)
    if not voucher.refunded_sessions:
        return new_codes
    await codes.withdraw(session, voucher, voucher.refunded_sessions)
    return await queries.codes_of(session, voucher)


def _mark_paid(voucher: Voucher, report: PaymentReport) -> datetime:
    """Enter a payment, and return when it was made."""
    paid_at = report.completed_at or now()
    voucher.payment_date = paid_at
    voucher.invoice_number = report.invoice_number
    if voucher.payment_status not in (PaymentStatus.REFUNDED, PaymentStatus.PARTIALLY_REFUNDED):
        voucher.payment_status = PaymentStatus.PAID
    return paid_at


def _apply_failure(session: AsyncSession, voucher: Voucher) -> None:
    if voucher.payment_status != PaymentStatus.PENDING:
        return
    voucher.payment_status = PaymentStatus.FAILED
    if voucher.status == VoucherStatus.PENDING:
        mark_cancelled(session, voucher, PAYMENT_FAILED)
    else:
        record(session, "UPDATE", voucher)
