"""Statements of refund quotes and disputes."""

from datetime import datetime

from sqlalchemy import ColumnExpressionArgument, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import RefundQuoteNotFound
from services.vouchers.models import QuoteStatus, RefundQuote, Voucher, VoucherDispute
from services.vouchers.queries.rows import found


async def find_quote(
    session: AsyncSession, voucher: Voucher, quote_id: int | None
) -> RefundQuote | None:
    """Return a quote of a voucher, or None."""
    statement = select(RefundQuote).where(
        RefundQuote.organization_id == voucher.organization_id,
        RefundQuote.voucher_id == voucher.id,
        RefundQuote.id == quote_id,
    )
    return await session.scalar(statement.execution_options(populate_existing=True))


async def get_quote(session: AsyncSession, voucher: Voucher, quote_id: int) -> RefundQuote:
    """Return a quote of a voucher; raises RefundQuoteNotFound."""
    return found(await find_quote(session, voucher, quote_id), RefundQuoteNotFound)


async def has_taken_quote(session: AsyncSession, voucher: Voucher) -> bool:
    """Say whether sessions of a voucher are withheld for money that has not gone back yet."""
    statement = select(RefundQuote.id).where(
        RefundQuote.organization_id == voucher.organization_id,
        RefundQuote.voucher_id == voucher.id,
        RefundQuote.status == QuoteStatus.TAKEN,
    )
    return bool(await session.scalar(select(statement.exists())))


async def forget_open_quotes(session: AsyncSession, before: datetime) -> None:
    """Drop the quotes that ran out before an instant and were not taken."""
    untaken = (RefundQuote.status == QuoteStatus.OPEN) & (RefundQuote.valid_until < before)
    await session.execute(delete(RefundQuote).where(untaken))


async def has_open_dispute(session: AsyncSession, voucher: Voucher) -> bool:
    """Say whether a bank wants the voucher's money back and it is not decided yet."""
    return await _has_dispute(session, voucher, VoucherDispute.is_open)


async def has_lost_dispute(session: AsyncSession, voucher: Voucher) -> bool:
    """Say whether a bank has taken the voucher's money back."""
    return await _has_dispute(session, voucher, VoucherDispute.is_lost)


async def _has_dispute(
    session: AsyncSession, voucher: Voucher, condition: ColumnExpressionArgument[bool]
) -> bool:
    statement = select(VoucherDispute.id).where(
        VoucherDispute.organization_id == voucher.organization_id,
        VoucherDispute.voucher_id == voucher.id,
        condition,
    )
    return bool(await session.scalar(select(statement.exists())))
