"""Apply the state of a payment to its voucher.

The state arrives twice, as the response of payments and as its event, in any order and perhaps
repeatedly. The voucher's lock serializes these reports, and only the first one has an effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import OrganizationNotFound
from services.vouchers.models import PaymentStatus, Voucher, VoucherStatus
from services.vouchers.service import codes, purchase_holds
from services.vouchers.service.calendar import day_in
from services.vouchers.service.vouchers import cancellation
from shared.db import now
from shared.detached import detached, values_of
from shared.writes import Writes

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
    """Apply a payment's state to its voucher and return the voucher, locked and detached.

    Raises VoucherNotFound, PaymentMismatch, and OrganizationNotFound when there is no copy of the
    organization, whose time zone decides on which day the voucher becomes valid.
    """
    voucher, zone = await queries.lock_voucher_with_zone(session, voucher_id)
    if report.status == "succeeded":
        return await _apply_success(session, voucher, zone, report)
    is_failure = report.status in ("failed", "cancelled")
    if not is_failure or voucher.payment_status != PaymentStatus.PENDING:
        return voucher
    changes: dict[str, str] = {"payment_status": PaymentStatus.FAILED}
    if voucher.status != VoucherStatus.PENDING:
        return await _change(session, voucher, "UPDATE", changes)
    if voucher.booked_sessions:
        await purchase_holds.release_unpaid(session, voucher_id)
        voucher, _ = await queries.lock_voucher_with_zone(session, voucher_id)
    changes["status"] = VoucherStatus.CANCELLED
    details = cancellation(voucher, PAYMENT_FAILED)
    return await _change(session, voucher, "CANCEL", changes, details)


async def activate(
    session: AsyncSession, voucher: Voucher, zone: str, report: PaymentReport
) -> tuple[Voucher, queries.Codes]:
    """Apply a success to a detached pending voucher, and return it with its new codes.

    It may be the voucher of an earlier transaction: it is neither read nor locked again, its
    version is compared instead. Raises StaleDataError if it has changed since; the transaction must
    be rolled back then.
    """
    payment = _payment(voucher, report)
    changes = payment | voucher.activation(day_in(zone, payment["payment_date"]))
    row = Writes(session).change(Voucher, values_of(voucher), changes, action="ACTIVATE")
    new_codes = await codes.issue(session, voucher)
    voucher = detached(Voucher, row.values)
    if voucher.booked_sessions:
        await purchase_holds.confirm_paid(session, voucher)
    if not voucher.refunded_sessions:
        return voucher, new_codes
    await codes.withdraw(session, voucher, voucher.refunded_sessions)
    return voucher, await queries.codes_of(session, voucher)


async def _apply_success(
    session: AsyncSession, voucher: Voucher, zone: str | None, report: PaymentReport
) -> Voucher:
    if report.amount is not None and report.amount != voucher.payment_amount:
        raise PaymentMismatch(f"voucher {voucher.id} has another price")
    if report.currency is not None and report.currency.upper() != voucher.currency:
        raise PaymentMismatch(f"voucher {voucher.id} has another currency")
    if voucher.payment_date is not None:
        # The payment was applied before; its invoice may have been written since.
        if voucher.invoice_number is not None or report.invoice_number is None:
            return voucher
        changes = {"invoice_number": report.invoice_number}
        return await _change(session, voucher, "UPDATE", changes)
    if zone is None:
        raise OrganizationNotFound
    if voucher.status == VoucherStatus.PENDING:
        voucher, _ = await activate(session, voucher, zone, report)
        return voucher
    # The voucher was cancelled meanwhile: payments receives that event and refunds the money.
    return await _change(session, voucher, "UPDATE", _payment(voucher, report))


def _payment(voucher: Voucher, report: PaymentReport) -> dict[str, Any]:
    """Return the changes by which a payment is entered."""
    refunded = (PaymentStatus.REFUNDED, PaymentStatus.PARTIALLY_REFUNDED)
    is_refunded = voucher.payment_status in refunded
    return {
        "payment_date": report.completed_at or now(),
        "invoice_number": report.invoice_number,
        "payment_status": voucher.payment_status if is_refunded else PaymentStatus.PAID,
    }


async def _change(
    session: AsyncSession,
    voucher: Voucher,
    action: str,
    changes: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
) -> Voucher:
    writes = Writes(session)
    row = writes.change(Voucher, values_of(voucher), changes, action=action, details=details)
    await writes.send()
    return detached(Voucher, row.values)
