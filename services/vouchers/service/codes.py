"""Codes of vouchers: eight characters that are easy to read aloud."""

import secrets
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Voucher, VoucherCode
from services.vouchers.queries import Codes
from shared.writes import Writes

# A–Z and 2–9 without characters that look alike: I L O (1, 0), B (8), S (5), Z (2).
ALPHABET = "ACDEFGHJKMNPQRTUVWXY23456789"
LENGTH = 8
_USABLE = ~VoucherCode.is_used & ~VoucherCode.is_refunded & ~VoucherCode.is_transferred
_PLACES = [len(ALPHABET) ** place for place in range(LENGTH)]


def new_code() -> str:
    """Return a random code: one of 28⁸, which is 38 bits."""
    number = secrets.randbelow(len(ALPHABET) ** LENGTH)
    return "".join(ALPHABET[number // place % len(ALPHABET)] for place in _PLACES)


async def issue(session: AsyncSession, voucher: Voucher) -> Codes:
    """Create one code for each regular and each backup session; return them as `codes_of` does.

    One statement inserts them, together with the writes that are not sent yet. The few codes that
    exist already are replaced by another one.
    """
    writes = Writes(session)
    missing = Counter({False: voucher.total_sessions, True: voucher.backup_sessions})
    new_codes: list[Mapping[str, Any]] = []
    while kinds := list(missing.elements()):
        owner = {name: getattr(voucher, name) for name in ("organization_id", "client_id")}
        rows = [
            {**owner, "voucher_id": voucher.id, "code": new_code(), "is_backup": is_backup}
            for is_backup in kinds
        ]
        inserted = writes.insert_many(
            VoucherCode, rows, returning=queries.CODE_COLUMNS, skip_existing=True
        )
        await writes.send()
        missing.subtract(row["is_backup"] for row in inserted.rows)
        new_codes += inserted.rows
    return sorted(new_codes, key=itemgetter("is_backup"))


async def withdraw(session: AsyncSession, voucher: Voucher, number: int) -> None:
    """Mark unused codes of regular sessions as refunded, the last ones first."""
    await _mark(session, voucher, _USABLE, number, is_refunded=True)


async def restore(session: AsyncSession, voucher: Voucher, number: int) -> None:
    """Make withdrawn codes usable again, after a refund that failed."""
    withdrawn = VoucherCode.is_refunded.is_(True)
    await _mark(session, voucher, withdrawn, number, is_refunded=False)


async def transfer(session: AsyncSession, voucher: Voucher, number: int) -> None:
    """Mark unused codes of regular sessions as transferred, the last ones first."""
    await _mark(session, voucher, _USABLE, number, is_transferred=True)


async def restore_transferred(session: AsyncSession, voucher: Voucher, number: int) -> None:
    """Make transferred codes usable again, after their sessions were returned."""
    is_transferred = VoucherCode.is_transferred.is_(True)
    await _mark(session, voucher, is_transferred, number, is_transferred=False)


async def _mark(
    session: AsyncSession,
    voucher: Voucher,
    condition: ColumnElement[bool],
    number: int,
    **marks: bool,
) -> None:
    code_ids = (
        select(VoucherCode.id)
        .where(
            VoucherCode.organization_id == voucher.organization_id,
            VoucherCode.voucher_id == voucher.id,
            ~VoucherCode.is_backup,
            condition,
        )
        .order_by(VoucherCode.id.desc())
        .limit(number)
    )
    await session.execute(
        update(VoucherCode)
        .where(VoucherCode.id.in_(code_ids))
        .values(**marks)
        .execution_options(synchronize_session=False)
    )
