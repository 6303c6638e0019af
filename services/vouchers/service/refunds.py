"""What money that goes back means for its voucher: sessions and codes go with it.

A quoted refund withholds its sessions before the money moves, and gives them again if it does not.
Any other refund, and what was refunded at the payment gateway's console, is heard of afterwards: it
takes as many unused sessions as its amount pays for. A voucher ends with its last session or when
all of its money went back.
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
from services.vouchers.service.vouchers import mark_cancelled
from shared.changes import record
from shared.db import now

REFUNDED = "refunded"
DISPUTE_LOST = "dispute_lost"

_ENDING = (VoucherStatus.PENDING, VoucherStatus.ACTIVE)


@dataclass(frozen=True, slots=True)
class Returned:
    """One refund that was made, and how much went back in all with it."""

    amount: Decimal
    refunded_amount: Decimal
    quote_id: int | None = None


async def withhold(
    session: AsyncSession, voucher: Voucher, quote: RefundQuote, reason: str | None
) -> None:
    """Take the sessions of a quote out of use, before its money goes back; the voucher is locked.

    The event tells payments to make the refund, in case that the call does not reach it.
    """
    await codes.take_back(session, voucher, quote.sessions)
    quote.status = QuoteStatus.TAKEN.value
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


async def refunded(session: AsyncSession, voucher_id: int, returned: Returned) -> Voucher:
    """Apply a refund that was made, whoever tells of it; raises VoucherNotFound."""
    voucher = await queries.lock_voucher(session, voucher_id)
    quote = await queries.find_quote(session, voucher, returned.quote_id)
    if quote is not None and quote.status == QuoteStatus.REFUNDED:
        return voucher
    in_full = returned.refunded_amount >= (voucher.payment_amount or Decimal(0))
    wanted = 0
    if quote is not None:
        quote.status = QuoteStatus.REFUNDED.value
    elif not in_full:
        price = voucher.payment_amount or Decimal(0)
        wanted = sessions_for(price, voucher.total_sessions, returned.amount)
    sessions = voucher.regular_sessions_left if in_full else wanted
    await _apply(session, voucher, sessions, in_full=in_full)
    await session.flush()
    return voucher


async def _apply(session: AsyncSession, voucher: Voucher, sessions: int, *, in_full: bool) -> None:
    """Take sessions away and tell what became of the voucher, in one event."""
    sessions = min(sessions, voucher.regular_sessions_left)
    if sessions:
        await codes.take_back(session, voucher, sessions)
    others_open = await queries.has_taken_quote(session, voucher)
    voucher.refunded_sessions += sessions
    if voucher.payment_status != PaymentStatus.REFUNDED:
        part = PaymentStatus.PARTIALLY_REFUNDED
        voucher.payment_status = (PaymentStatus.REFUNDED if in_full else part).value
    nothing_left = voucher.regular_sessions_left == 0 and not others_open
    if voucher.status in _ENDING and (in_full or nothing_left):
        mark_cancelled(session, voucher, REFUNDED)
    elif sessions:
        left = voucher.regular_sessions_left
        record(session, "REDUCE", voucher, sessions=sessions, regular_sessions_left=left)
    elif session.is_modified(voucher):
        record(session, "UPDATE", voucher)


async def not_refunded(session: AsyncSession, voucher_id: int, quote_id: int) -> None:
    """Give the sessions of a quote again whose money could not be given back."""
    voucher = await queries.lock_voucher(session, voucher_id)
    quote = await queries.find_quote(session, voucher, quote_id)
    if quote is None or quote.status != QuoteStatus.TAKEN:
        return
    await codes.give_again(session, voucher, quote.sessions)
    # From here on no query before the end: a flush halfway would show the database a half change.
    quote.status = QuoteStatus.FAILED.value
    voucher.refunded_sessions -= quote.sessions
    record(session, "RESTORE", voucher, refund_quote_id=quote.id, sessions=quote.sessions)
    await reopen(session, voucher)
    await session.flush()


async def reopen(session: AsyncSession, voucher: Voucher) -> None:
    """Let a completed voucher go on that has sessions again, or end if its money is gone.

    The loss of its money could not end it before: there was nothing left of it.
    """
    if voucher.status != VoucherStatus.COMPLETED or voucher.regular_sessions_left == 0:
        return
    voucher.status = VoucherStatus.ACTIVE.value
    record(session, "REOPEN", voucher)
    await session.flush()
    if await queries.has_lost_dispute(session, voucher):
        mark_cancelled(session, voucher, DISPUTE_LOST)
    elif voucher.payment_status == PaymentStatus.REFUNDED:
        mark_cancelled(session, voucher, REFUNDED)


async def disputed(session: AsyncSession, voucher_id: int, dispute_id: int, *, status: str) -> None:
    """Suspend a voucher whose payer's bank wants the money back; end it when the bank gets it.

    `status` is the dispute's: `open`, `won` or `lost`. Sessions that were spent stay spent.
    """
    voucher = await queries.lock_voucher(session, voucher_id)
    dispute = await session.get(VoucherDispute, dispute_id)
    if dispute is None:
        dispute = VoucherDispute(
            id=dispute_id,
            organization_id=voucher.organization_id,
            voucher_id=voucher.id,
            is_open=True,
        )
        session.add(dispute)
    elif not dispute.is_open:
        return
    dispute.is_open, dispute.is_lost = status == "open", status == "lost"
    await session.flush()
    if status == "lost" and voucher.status in _ENDING:
        mark_cancelled(session, voucher, DISPUTE_LOST)
    still_open = await queries.has_open_dispute(session, voucher)
    if still_open != (voucher.disputed_at is not None):
        voucher.disputed_at = now() if still_open else None
        record(session, "UPDATE", voucher)
    await session.flush()
