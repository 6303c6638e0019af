"""Queries of transfers, and of the vouchers that received sessions."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import TransferEntry, Voucher
from services.vouchers.schemas.transfers import TransferRead
from shared.reads import JsonQuery, Reader

_TRANSFERS = JsonQuery(
    TransferRead,
    select()
    .select_from(TransferEntry)
    .where(
        TransferEntry.organization_id == bindparam("organization_id", type_=BigInteger),
        TransferEntry.voucher_id == bindparam("voucher_id", type_=BigInteger),
    )
    .limit(200),
    dict(TransferEntry.__table__.columns),
    order=(TransferEntry.id,),
)


async def list_transfers(reader: Reader, organization_id: int, voucher_id: int) -> bytes:
    """Return a voucher's sides of transfers as JSON, newest first, at most 200."""
    return await _TRANSFERS.list(reader, organization_id=organization_id, voucher_id=voucher_id)


async def get_transfer(session: AsyncSession, entry_id: int) -> TransferEntry:
    """Return one side of a transfer that exists."""
    return await session.get_one(TransferEntry, entry_id)


async def lock_received_vouchers(session: AsyncSession, voucher: Voucher) -> Sequence[Voucher]:
    """Return the vouchers that received sessions of a voucher, locked in the order of their ids.

    The voucher itself, which is older, is to be locked before.
    """
    statement = (
        select(Voucher)
        .where(
            Voucher.organization_id == voucher.organization_id,
            Voucher.received_from_id == voucher.id,
        )
        .order_by(Voucher.id)
        .with_for_update(of=Voucher)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()
