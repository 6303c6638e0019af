"""Apply refunds and disputes to a voucher: its sessions and codes go with the money.

A refund by quote withholds its sessions before the money is sent, and restores them if that fails.
Any other refund, for instance one made in the payment gateway's console, is reported afterwards
and takes as many unused sessions as its amount pays for. A voucher is cancelled when no session is
left or when all of its money was refunded. Sessions that other clients received from it are paid by
the same money, and end with it.

Sessions that are not booked are taken first, then those of the latest reservations, which are
cancelled in the same transaction. A refund that fails restores the sessions, not the reservations:
their times may be taken already.
"""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import (
    PaymentStatus,
    QuoteStatus,
    RefundQuote,
    Voucher,
    VoucherDispute,
    VoucherStatus,
)
from services.vouchers.service import codes
from services.vouchers.service.pro_rata import sessions_for
from services.vouchers.service.releases import REFUNDED, release_for_refund
from services.vouchers.service.vouchers import end_voucher
from shared.changes import record
from shared.db import now

DISPUTE_LOST = "dispute_lost"

_CANCELLABLE = (VoucherStatus.PENDING, VoucherStatus.ACTIVE)


@dataclass(frozen=True, slots=True)
class RefundReport:
    """A refund that succeeded; `refunded_amount` is the total of all refunds of the payment."""

    amount: Decimal
    refunded_amount: Decimal
    quote_id: int | None = None


async def withhold_sessions(
    session: AsyncSession, voucher: Voucher, quote: RefundQuote, reason: str | None
) -> None:
    """Take the sessions of a quote out of use before its money is refunded; the voucher is locked.

    The event lets payments make the refund, should the call not reach it.
    """
    await release_for_refund(session, voucher, quote.sessions)
    await codes.withdraw(session, voucher, quote.sessions)
    quote.status = QuoteStatus.TAKEN
    quote.reason = reason
    voucher.refunded_sessions += quote.sessions
    record(
        session,
        "REFUND",
        voucher,
        refund_quote_id=quote.id,
        transaction_id=quote.transaction_id,
        sessions=quote.sessions,
        amount=quote.amount,
        currency=quote.currency,
        client_id=voucher.client_id,
        reason=reason,
    )
    await session.flush()


async def apply_refund(session: AsyncSession, voucher_id: int, report: RefundReport) -> Voucher:
    """Apply a refund that succeeded; a repeated report of a quote has no effect.

    Raises VoucherNotFound.
    """
    voucher = await queries.lock_voucher(session, voucher_id)
    quote = await queries.find_quote(session, voucher, report.quote_id)
    if quote is not None and quote.status == QuoteStatus.REFUNDED:
        return voucher
    price = voucher.payment_amount or Decimal(0)
    in_full = report.refunded_amount >= price
    sessions = 0
    if in_full:
        sessions = voucher.regular_sessions_left
    elif quote is None:
        paid_for = sessions_for(price, voucher.total_sessions, report.amount)
        sessions = min(paid_for, voucher.regular_sessions_left)
    if quote is not None:
        quote.status = QuoteStatus.REFUNDED
    await _remove_sessions(session, voucher, sessions, in_full=in_full)
    await session.flush()
    if in_full:
        await _end_received(session, voucher)
    return voucher


async def _end_received(session: AsyncSession, voucher: Voucher) -> None:
    """End the vouchers that received sessions of one whose money was refunded in full."""
    for receiver in await queries.lock_received_vouchers(session, voucher):
        if receiver.payment_status == PaymentStatus.REFUNDED:
            continue
        receiver.payment_status = PaymentStatus.REFUNDED
        if receiver.status in _CANCELLABLE:
            await end_voucher(session, receiver, REFUNDED)
        else:
            record(session, "UPDATE", receiver)
    await session.flush()


async def _remove_sessions(
    session: AsyncSession, voucher: Voucher, sessions: int, *, in_full: bool
) -> None:
    """Remove refunded sessions, and record what became of the voucher in one event."""
    if sessions:
        await release_for_refund(session, voucher, sessions)
        await codes.withdraw(session, voucher, sessions)
    others_open = await queries.has_taken_quote(session, voucher)
    voucher.refunded_sessions += sessions
    if voucher.payment_status != PaymentStatus.REFUNDED:
        partly = PaymentStatus.PARTIALLY_REFUNDED
        voucher.payment_status = PaymentStatus.REFUNDED if in_full else partly
    is_used_up = voucher.regular_sessions_left == 0 and not others_open
    if voucher.status in _CANCELLABLE and (in_full or is_used_up):
        await end_voucher(session, voucher, REFUNDED)
    elif sessions:
        balance = voucher.regular_sessions_left
        record(session, "REDUCE", voucher, sessions=sessions, regular_sessions_left=balance)
    elif session.is_modified(voucher):
        record(session, "UPDATE", voucher)


async def apply_failed_refund(session: AsyncSession, voucher_id: int, quote_id: int) -> None:
    """Restore the sessions of a quote whose money could not be refunded.

    Raises VoucherNotFound.
    """
    voucher = await queries.lock_voucher(session, voucher_id)
    quote = await queries.find_quote(session, voucher, quote_id)
    if quote is None or quote.status != QuoteStatus.TAKEN:
        return
    await codes.restore(session, voucher, quote.sessions)
    # No query from here on: its flush would write half of the change, which the database refuses.
    quote.status = QuoteStatus.FAILED
    voucher.refunded_sessions -= quote.sessions
    record(session, "RESTORE", voucher, refund_quote_id=quote.id, sessions=quote.sessions)
    await reopen(session, voucher)
    await session.flush()


async def reopen(session: AsyncSession, voucher: Voucher) -> None:
    """Make a completed voucher active if it has sessions again, or cancel it if its money is gone.

    The loss of the money could not cancel it earlier, because all of its sessions were used.
    """
    if voucher.status != VoucherStatus.COMPLETED or voucher.regular_sessions_left == 0:
        return
    voucher.status = VoucherStatus.ACTIVE
    record(session, "REOPEN", voucher)
    await session.flush()
    if await queries.has_lost_dispute(session, voucher):
        await end_voucher(session, voucher, DISPUTE_LOST)
    elif voucher.payment_status == PaymentStatus.REFUNDED:
        await end_voucher(session, voucher, REFUNDED)


async def apply_dispute(
    session: AsyncSession, voucher_id: int, dispute_id: int, *, status: str
) -> None:
    """Suspend a voucher while its payer's bank reclaims the money; cancel it if the bank wins.

    The same happens to the vouchers that received sessions of it. `status` is the dispute's:
    `open`, `won` or `lost`. Used sessions stay used. Raises VoucherNotFound.
    """
    voucher = await queries.lock_voucher(session, voucher_id)
    dispute = await queries.find_dispute(session, dispute_id)
    if dispute is None:
        dispute = VoucherDispute(
            id=dispute_id, organization_id=voucher.organization_id, voucher_id=voucher.id
        )
        session.add(dispute)
    elif not dispute.is_open:
        return
    dispute.is_open, dispute.is_lost = status == "open", status == "lost"
    await session.flush()
    still_open = await queries.has_open_dispute(session, voucher)
    for row in (voucher, *await queries.lock_received_vouchers(session, voucher)):
        if status == "lost" and row.status in _CANCELLABLE:
            await end_voucher(session, row, DISPUTE_LOST)
        if still_open != (row.disputed_at is not None):
            row.disputed_at = now() if still_open else None
            record(session, "UPDATE", row)
    await session.flush()
