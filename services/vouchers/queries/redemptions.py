"""Queries of codes, redemptions and adjustments."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    and_,
    bindparam,
    case,
    exists,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.vouchers.errors import AdjustmentNotFound, CodeNotFound, RedemptionNotFound
from services.vouchers.models import (
    Adjustment,
    AdjustmentKind,
    Redemption,
    SessionKind,
    Voucher,
    VoucherCode,
)
from services.vouchers.queries.rows import CODE_COLUMNS, Codes, require
from services.vouchers.schemas.redemptions import AdjustmentRead, RedemptionRead
from shared.characters import plain
from shared.connections import fetch
from shared.detached import SelectedColumns
from shared.paging import Page
from shared.reads import JsonQuery, Reader

_ORGANIZATION = bindparam("organization_id", type_=BigInteger)
_VOUCHER = bindparam("voucher_id", type_=BigInteger)
_CODES = select(VoucherCode).where(
    VoucherCode.organization_id == bindparam("organization_id"),
    VoucherCode.voucher_id == bindparam("voucher_id"),
)
_LISTED_CODES = (
    f"SELECT {', '.join(CODE_COLUMNS)} FROM voucher_codes"  # noqa: S608 - our own names
    " WHERE organization_id = $1 AND voucher_id = $2 ORDER BY is_backup, id"
)


_CODE = SelectedColumns(VoucherCode, "c")
_CODES_OF = (
    f"SELECT {_CODE.sql} FROM voucher_codes c"  # noqa: S608
    " WHERE organization_id = $1 AND voucher_id = $2"
)
_UNUSED_CODE = (
    f"{_CODES_OF} AND is_backup = $3 AND NOT is_used AND NOT is_refunded"
    " AND NOT is_transferred ORDER BY id LIMIT 1"
)
_FREEZE = SelectedColumns(Adjustment, "a")
_FREEZES = (
    f"SELECT {_FREEZE.sql} FROM adjustments a"  # noqa: S608
    f" WHERE voucher_id = ANY($1) AND kind = '{AdjustmentKind.FREEZE}' AND reversed_at IS NULL"
)


def spellings(code: str) -> set[str]:
    """Return the forms in which a code that a user typed may be stored.

    These are the code as typed and in plain characters; the latter also in upper and lower case,
    with hyphens for spaces, and without hyphens and spaces. Codes of version 1 contain hyphens and
    letters of either case.
    """
    plain_code = plain(code).strip()
    with_hyphens = re.sub(r"[\s-]+", "-", plain_code)
    forms = (plain_code, with_hyphens)
    cases = {case for form in forms for case in (form, form.upper(), form.lower())}
    return {code, *cases, _letters(plain_code)}


def _letters(code: str) -> str:
    """Return the characters of a code that distinguish it: no spaces, no hyphens, upper case."""
    return re.sub(r"[\s-]", "", plain(code)).upper()


async def codes_of(session: AsyncSession, voucher: Voucher) -> Codes:
    """Return a voucher's codes in the order of their use, regular codes first."""
    return await fetch(session, _LISTED_CODES, voucher.organization_id, voucher.id)


async def get_code(session: AsyncSession, voucher: Voucher, code: str) -> VoucherCode:
    """Return a code of a voucher in any spelling, detached; raises CodeNotFound.

    A voucher of version 1 may have codes that differ in case only: the exact spelling wins.
    """
    of_voucher = (voucher.organization_id, voucher.id)
    rows = await fetch(session, f"{_CODES_OF} AND code = ANY($3)", *of_voucher, spellings(code))
    matches = {row["code"]: row for row in rows}
    if not matches:
        rows = await fetch(session, f"{_CODES_OF} ORDER BY id DESC", *of_voucher)
        matches = {row["code"]: row for row in rows if _letters(row["code"]) == _letters(code)}
    plain_code = plain(code).strip()
    exact = matches.get(code) or matches.get(plain_code) or matches.get(plain_code.upper())
    return _CODE.entity(require(exact or next(iter(matches.values()), None), CodeNotFound))


async def find_code(
    session: AsyncSession, voucher: Voucher, code_id: int | None
) -> VoucherCode | None:
    """Return a voucher's code by its id, or None."""
    return await session.scalar(_CODES.where(VoucherCode.id == code_id), _of(voucher))


async def find_unused_code(
    session: AsyncSession, voucher: Voucher, kind: SessionKind
) -> VoucherCode | None:
    """Return the next unused code of a kind, detached, or None.

    Some vouchers of version 1 have no codes.
    """
    is_backup = kind == SessionKind.BACKUP
    rows = await fetch(session, _UNUSED_CODE, voucher.organization_id, voucher.id, is_backup)
    return _CODE.entity(rows[0]) if rows else None


async def mark_code_used(session: AsyncSession, code_id: int, values: Mapping[str, Any]) -> None:
    """Store by whom and when a code was used."""
    await session.execute(
        update(VoucherCode)
        .where(VoucherCode.id == code_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _of(voucher: Voucher) -> dict[str, int]:
    return {"organization_id": voucher.organization_id, "voucher_id": voucher.id}


def is_in_force() -> ColumnElement[bool]:
    """Return the condition of redemptions that are not reversed, and no reversals themselves."""
    reversal = aliased(Redemption)
    has_reversal = select(reversal.id).where(reversal.reversal_of == Redemption.id).exists()
    return and_(Redemption.reversal_of.is_(None), ~has_reversal)


_REDEMPTIONS = JsonQuery(
    RedemptionRead,
    select()
    .select_from(Redemption)
    .outerjoin(VoucherCode, VoucherCode.id == Redemption.voucher_code_id)
    .where(Redemption.organization_id == _ORGANIZATION, Redemption.voucher_id == _VOUCHER),
    {
        **Redemption.__table__.columns,
        "code": VoucherCode.code,
        "note": case((bindparam("with_notes", type_=Boolean), Redemption.note)),
    },
    order=(Redemption.id,),
)


async def page_of_redemptions(
    reader: Reader, page: Page, organization_id: int, voucher_id: int, *, with_notes: bool
) -> bytes:
    """Return a page of a voucher's redemptions with their codes as JSON, newest first."""
    return await _REDEMPTIONS.page(
        reader,
        page,
        organization_id=organization_id,
        voucher_id=voucher_id,
        with_notes=with_notes,
    )


async def get_redemption(session: AsyncSession, voucher: Voucher, redemption_id: int) -> Redemption:
    """Return a redemption of a voucher; raises RedemptionNotFound."""
    statement = select(Redemption).where(
        Redemption.organization_id == voucher.organization_id,
        Redemption.voucher_id == voucher.id,
        Redemption.id == redemption_id,
    )
    return require(await session.scalar(statement), RedemptionNotFound)


async def is_reversed(session: AsyncSession, redemption: Redemption) -> bool:
    """Return whether a redemption was reversed."""
    return bool(
        await session.scalar(select(exists().where(Redemption.reversal_of == redemption.id)))
    )


async def has_sessions_between(
    session: AsyncSession, voucher: Voucher, first: date, last: date
) -> bool:
    """Return whether a voucher has a redemption in force on one of these days."""
    statement = select(Redemption.id).where(
        Redemption.organization_id == voucher.organization_id,
        Redemption.voucher_id == voucher.id,
        Redemption.session_date.between(first, last),
        is_in_force(),
    )
    return bool(await session.scalar(select(statement.exists())))


_ADJUSTMENTS = JsonQuery(
    AdjustmentRead,
    select()
    .select_from(Adjustment)
    .where(Adjustment.organization_id == _ORGANIZATION, Adjustment.voucher_id == _VOUCHER)
    .limit(200),
    dict(Adjustment.__table__.columns),
    order=(Adjustment.id,),
)


async def list_adjustments(reader: Reader, organization_id: int, voucher_id: int) -> bytes:
    """Return a voucher's freezes and extensions as JSON, newest first, at most 200."""
    return await _ADJUSTMENTS.list(reader, organization_id=organization_id, voucher_id=voucher_id)


async def get_adjustment(session: AsyncSession, voucher: Voucher, adjustment_id: int) -> Adjustment:
    """Return a freeze or extension of a voucher; raises AdjustmentNotFound."""
    statement = select(Adjustment).where(
        Adjustment.organization_id == voucher.organization_id,
        Adjustment.voucher_id == voucher.id,
        Adjustment.id == adjustment_id,
    )
    return require(await session.scalar(statement), AdjustmentNotFound)


async def freezes_of(session: AsyncSession, voucher_ids: Sequence[int]) -> Sequence[Adjustment]:
    """Return the freezes of some vouchers that are not reversed, detached."""
    rows = await fetch(session, _FREEZES, voucher_ids)
    return [_FREEZE.entity(row) for row in rows]
