"""Selects of codes, redemptions and adjustments."""

import re
from collections.abc import Sequence
from datetime import date

from sqlalchemy import ColumnElement, and_, bindparam, exists, select
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
from services.vouchers.queries.rows import Rows, columns_of, found, position
from services.vouchers.schemas.vouchers import CodeRead
from shared.characters import plain
from shared.paging import Page

_CODES = select(VoucherCode).where(
    VoucherCode.organization_id == bindparam("organization_id"),
    VoucherCode.voucher_id == bindparam("voucher_id"),
)
_SHOWN_CODES = _CODES.with_only_columns(*columns_of(VoucherCode, CodeRead.model_fields)).order_by(
    VoucherCode.is_backup, VoucherCode.id
)


def spellings(code: str) -> set[str]:
    """Return how a code may be stored: as typed or in plain characters, these also in capitals or
    in small letters, with hyphens for spaces, or without either, which people group it with.

    Version 1's codes have hyphens of their own, and whatever letters somebody gave them.
    """
    written = plain(code).strip()
    hyphened = re.sub(r"[\s-]+", "-", written)
    cases = {case for form in (written, hyphened) for case in (form, form.upper(), form.lower())}
    return {code, *cases, _letters(written)}


def _letters(code: str) -> str:
    """Return what of a code tells it from others."""
    return re.sub(r"[\s-]", "", plain(code)).upper()


async def codes_of(session: AsyncSession, voucher: Voucher) -> Rows:
    """Return what is shown of a voucher's codes: regular ones first, in the order in which they
    are spent."""
    return (await session.execute(_SHOWN_CODES, _of(voucher))).all()


async def get_code(session: AsyncSession, voucher: Voucher, code: str) -> VoucherCode:
    """Return a code of a voucher, however it is written; raises CodeNotFound.

    Version 1 could give one voucher codes that differ in case alone: the one as typed comes first.
    """
    statement = _CODES.where(VoucherCode.code.in_(spellings(code)))
    known = {row.code: row for row in await session.scalars(statement, _of(voucher))}
    if not known:
        rows = await session.scalars(_CODES.order_by(VoucherCode.id.desc()), _of(voucher))
        known = {row.code: row for row in rows if _letters(row.code) == _letters(code)}
    written = plain(code).strip()
    exact = known.get(code) or known.get(written) or known.get(written.upper())
    return found(exact or next(iter(known.values()), None), CodeNotFound)


async def code_with_id(
    session: AsyncSession, voucher: Voucher, code_id: int | None
) -> VoucherCode | None:
    """Return a voucher's code by its id, or None."""
    return await session.scalar(_CODES.where(VoucherCode.id == code_id), _of(voucher))


async def next_code(session: AsyncSession, voucher: Voucher, kind: str) -> VoucherCode | None:
    """Return the next unused code of a kind; version 1 left vouchers that have none."""
    backup = VoucherCode.is_backup == (kind == SessionKind.BACKUP)
    statement = _CODES.where(backup, ~VoucherCode.is_used, ~VoucherCode.is_refunded)
    return await session.scalar(statement.order_by(VoucherCode.id).limit(1), _of(voucher))


def _of(voucher: Voucher) -> dict[str, int]:
    return {"organization_id": voucher.organization_id, "voucher_id": voucher.id}


def stands() -> ColumnElement[bool]:
    """Return the condition that leaves redemptions which were not taken back."""
    reversal = aliased(Redemption)
    reversed_ = select(reversal.id).where(reversal.reversal_of == Redemption.id).exists()
    return and_(Redemption.reversal_of.is_(None), ~reversed_)


async def page_of_redemptions(session: AsyncSession, page: Page, voucher: Voucher) -> Rows:
    """Return a page of a voucher's ledger, newest first."""
    statement = (
        select(Redemption.__table__, VoucherCode.code)
        .outerjoin(VoucherCode, VoucherCode.id == Redemption.voucher_code_id)
        .where(
            Redemption.organization_id == voucher.organization_id,
            Redemption.voucher_id == voucher.id,
        )
    )
    rows = (await session.execute(page.of(statement, Redemption.id))).all()
    return page.cut(rows, position)


async def get_redemption(session: AsyncSession, voucher: Voucher, redemption_id: int) -> Redemption:
    """Return a row of a voucher's ledger; raises RedemptionNotFound."""
    statement = select(Redemption).where(
        Redemption.organization_id == voucher.organization_id,
        Redemption.voucher_id == voucher.id,
        Redemption.id == redemption_id,
    )
    return found(await session.scalar(statement), RedemptionNotFound)


async def is_reversed(session: AsyncSession, redemption: Redemption) -> bool:
    """Say whether a redemption was taken back."""
    return bool(
        await session.scalar(select(exists().where(Redemption.reversal_of == redemption.id)))
    )


async def took_place_between(
    session: AsyncSession, voucher: Voucher, first: date, last: date
) -> bool:
    """Say whether a session of a voucher was spent on one of these days."""
    statement = select(Redemption.id).where(
        Redemption.organization_id == voucher.organization_id,
        Redemption.voucher_id == voucher.id,
        Redemption.session_date.between(first, last),
        stands(),
    )
    return bool(await session.scalar(select(statement.exists())))


async def adjustments_of(session: AsyncSession, voucher: Voucher) -> Sequence[Adjustment]:
    """Return a voucher's freezes and extensions, newest first; there are a handful."""
    statement = select(Adjustment).where(
        Adjustment.organization_id == voucher.organization_id, Adjustment.voucher_id == voucher.id
    )
    return (await session.scalars(statement.order_by(Adjustment.id.desc()).limit(200))).all()


async def get_adjustment(session: AsyncSession, voucher: Voucher, adjustment_id: int) -> Adjustment:
    """Return a freeze or extension of a voucher; raises AdjustmentNotFound."""
    statement = select(Adjustment).where(
        Adjustment.organization_id == voucher.organization_id,
        Adjustment.voucher_id == voucher.id,
        Adjustment.id == adjustment_id,
    )
    return found(await session.scalar(statement), AdjustmentNotFound)


async def freezes_of(session: AsyncSession, voucher_ids: Sequence[int]) -> Sequence[Adjustment]:
    """Return the freezes in force of some vouchers."""
    statement = select(Adjustment).where(
        Adjustment.voucher_id.in_(voucher_ids),
        Adjustment.kind == AdjustmentKind.FREEZE,
        Adjustment.reversed_at.is_(None),
    )
    return (await session.scalars(statement)).all()
