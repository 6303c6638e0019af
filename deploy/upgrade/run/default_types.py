"""The voucher types of the default organization, the same as in a new installation."""

from typing import Any

from sqlalchemy import select, text

from deploy.upgrade.run.sql_literals import DefaultType
from deploy.upgrade.targets import seeing_everything
from services.vouchers.models import OrganizationCopy, VoucherType
from services.vouchers.service.default_types import DEFAULT_VOUCHER_TYPES, default_type
from shared.changes import record
from shared.transactions import Transactions

_RECORD = text("INSERT INTO upgrade_voucher_types (id, made) VALUES (:id, :made)")
_COUNT = text("SELECT count(*) FROM upgrade_voucher_types")
_TYPES = """
    SELECT id, kind.version, kind.total_sessions, kind.max_clients_per_session > 1 AS in_group
    FROM upgrade_voucher_types JOIN voucher_types kind USING (id)
"""


async def default_types(vouchers: Any) -> list[DefaultType]:
    """Return the default voucher types that `ensure_default_types` recorded."""
    async with seeing_everything(vouchers):
        return [DefaultType(**row) for row in await vouchers.fetch(_TYPES)]


async def ensure_default_types(transactions: Transactions, organization_id: int) -> None:
    """Create the missing default voucher types and record which ones. Safe to repeat."""
    async with transactions.system() as session:
        if await session.scalar(_COUNT):
            return
        organization = await session.get_one(OrganizationCopy, organization_id)
        rows = await session.scalars(
            select(VoucherType).where(VoucherType.organization_id == organization_id)
        )
        existing_types = {row.name: row for row in rows}
        for terms in DEFAULT_VOUCHER_TYPES:
            voucher_type = existing_types.get(str(terms["name"]))
            is_new = voucher_type is None
            if voucher_type is None:
                voucher_type = default_type(organization, terms)
                session.add(voucher_type)
                record(session, "CREATE", voucher_type)
                await session.flush()
            await session.execute(_RECORD, {"id": voucher_type.id, "made": is_new})
