"""Queries of refund quotes and disputes."""

from datetime import datetime

from sqlalchemy import ColumnExpressionArgument, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import RefundQuoteNotFound
from services.vouchers.models import QuoteStatus, RefundQuote, Voucher, VoucherDispute
from services.vouchers.queries.rows import require


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
    return require(await find_quote(session, voucher, quote_id), RefundQuoteNotFound)


async def get_quote_by_id(session: AsyncSession, quote_id: int) -> RefundQuote:
    """Return a quote of any voucher; raises RefundQuoteNotFound."""
    return require(await session.get(RefundQuote, quote_id), RefundQuoteNotFound)


async def has_taken_quote(session: AsyncSession, voucher: Voucher) -> bool:
    """Return whether sessions of a voucher are withheld for a refund that is not finished."""
    statement = select(RefundQuote.id).where(
        RefundQuote.organization_id == voucher.organization_id,
        RefundQuote.voucher_id == voucher.id,
        RefundQuote.status == QuoteStatus.TAKEN,
    )
    return bool(await session.scalar(select(statement.exists())))


async def delete_unused_quotes(session: AsyncSession, before: datetime) -> None:
    """Delete the quotes that expired before an instant and were not taken."""
    unused = (RefundQuote.status == QuoteStatus.OPEN) & (RefundQuote.valid_until < before)
    await session.execute(delete(RefundQuote).where(unused))


async def find_dispute(session: AsyncSession, dispute_id: int) -> VoucherDispute | None:
    """Return a dispute by its id in payments, or None."""
    return await session.get(VoucherDispute, dispute_id)


async def has_open_dispute(session: AsyncSession, voucher: Voucher) -> bool:
    """Return whether a dispute about the voucher's payment is undecided."""
    return await _has_dispute(session, voucher, VoucherDispute.is_open)


async def has_lost_dispute(session: AsyncSession, voucher: Voucher) -> bool:
    """Return whether a dispute about the voucher's payment was lost."""
    return await _has_dispute(session, voucher, VoucherDispute.is_lost)


async def _has_dispute(
    session: AsyncSession, voucher: Voucher, condition: ColumnExpressionArgument[bool]
) -> bool:
    statement = select(VoucherDispute.id).where(
        VoucherDispute.organization_id == voucher.organization_id,
        # The payment of sessions that were received is that of the voucher they are from.
        VoucherDispute.voucher_id.in_([voucher.id, voucher.received_from_id or voucher.id]),
        condition,
    )
    return bool(await session.scalar(select(statement.exists())))
