"""The voucher types of the default organization: the same as on a fresh installation."""

from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from deploy.upgrade.run.sql_literals import DefaultType
from deploy.upgrade.targets import seeing_everything
from services.vouchers.models import OrganizationCopy, VoucherType
from services.vouchers.service.default_types import DEFAULT_VOUCHER_TYPES, default_type
from shared.changes import record
from shared.transactions import Transactions

_NOTE = text("INSERT INTO upgrade_voucher_types (id, made) VALUES (:id, :made)")
_DONE = text("SELECT count(*) FROM upgrade_voucher_types")
_KINDS = """
    SELECT id, kind.version, kind.total_sessions, kind.max_clients_per_session > 1 AS in_group
    FROM upgrade_voucher_types JOIN voucher_types kind USING (id)
"""


async def default_types(vouchers: Any) -> list[DefaultType]:
    """Return the default voucher types, once they are there."""
    async with seeing_everything(vouchers):
        return [DefaultType(**row) for row in await vouchers.fetch(_KINDS)]


async def ensure_default_types(transactions: Transactions, organization_id: int) -> None:
    """Make the default voucher types unless they are there; note which are ours. Safe to repeat."""
    async with transactions.system() as session:
        if await session.scalar(_DONE):
            return
        organization = await session.get_one(OrganizationCopy, organization_id)
        known = await _known(session, organization_id)
        for terms in DEFAULT_VOUCHER_TYPES:
            kind = known.get(str(terms["name"]))
            made = kind is None
            kind = kind or await _make(session, default_type(organization, terms))
            await session.execute(_NOTE, {"id": kind.id, "made": made})


async def _make(session: AsyncSession, kind: VoucherType) -> VoucherType:
    session.add(kind)
    record(session, "CREATE", kind)
    await session.flush()
    return kind


async def _known(session: AsyncSession, organization_id: int) -> dict[str, VoucherType]:
    found = await session.scalars(
        select(VoucherType).where(VoucherType.organization_id == organization_id)
    )
    return {kind.name: kind for kind in found}
