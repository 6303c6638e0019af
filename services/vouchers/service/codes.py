"""Codes: eight characters that a client can read out without being misunderstood."""

import secrets
from collections import Counter

from sqlalchemy import ColumnElement, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import Voucher, VoucherCode

# A–Z and 2–9 without what is taken for one another: I L O (1, 0), B (8), S (5), Z (2).
ALPHABET = "ACDEFGHJKMNPQRTUVWXY23456789"
LENGTH = 8
_PLACES = [len(ALPHABET) ** place for place in range(LENGTH)]

_INSERT = text(
    "INSERT INTO voucher_codes"
    " (organization_id, voucher_id, client_id, code, is_backup, is_used, created_at)"
    " SELECT :organization_id, :voucher_id, :client_id, code, is_backup, false, now()"
    " FROM unnest(CAST(:codes AS text[]), CAST(:kinds AS boolean[])) AS drawn (code, is_backup)"
    " ON CONFLICT (code) DO NOTHING RETURNING is_backup"
)


def new_code() -> str:
    """Return a code that nobody can guess: 28⁸ of them, 38 bits."""
    drawn = secrets.randbelow(len(ALPHABET) ** LENGTH)
    return "".join(ALPHABET[drawn // place % len(ALPHABET)] for place in _PLACES)


async def issue(session: AsyncSession, voucher: Voucher) -> None:
    """Give a voucher one code for each regular and for each backup session.

    In one statement; the few that somebody else holds already are drawn again.
    """
    missing = Counter({False: voucher.total_sessions, True: voucher.backup_sessions})
    while kinds := list(missing.elements()):
        given = await session.scalars(
            _INSERT,
            {
                "organization_id": voucher.organization_id,
                "voucher_id": voucher.id,
                "client_id": voucher.client_id,
                "codes": [new_code() for _ in kinds],
                "kinds": kinds,
            },
        )
        missing.subtract(given)


async def take_back(session: AsyncSession, voucher: Voucher, number: int) -> None:
    """Make unused codes of regular sessions worthless, the last ones first."""
    usable = ~VoucherCode.is_used & ~VoucherCode.is_refunded
    await _mark(session, voucher, usable, number, refunded=True)


async def give_again(session: AsyncSession, voucher: Voucher, number: int) -> None:
    """Make codes good again that were taken back for money which did not go back."""
    marked = VoucherCode.is_refunded.is_(True)
    await _mark(session, voucher, marked, number, refunded=False)


async def _mark(
    session: AsyncSession,
    voucher: Voucher,
    condition: ColumnElement[bool],
    number: int,
    *,
    refunded: bool,
) -> None:
    chosen = (
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
        .where(VoucherCode.id.in_(chosen))
        .values(is_refunded=refunded)
        .execution_options(synchronize_session=False)
    )
