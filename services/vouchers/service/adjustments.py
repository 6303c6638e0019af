"""Use cases of a voucher's validity: freeze, extend, take either back."""

from datetime import date, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import (
    AdjustmentAlreadyReversed,
    FreezeOverlaps,
    SessionsBeyondValidity,
    VoucherNotActive,
)
from services.vouchers.models import Adjustment, AdjustmentKind, Voucher, VoucherStatus
from services.vouchers.schemas.redemptions import ExtensionCreate, FreezeCreate
from services.vouchers.service.vouchers import lock_managed
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Invalid

FURTHEST = timedelta(days=36_500)
"""How far a voucher's last day can be moved at once."""


async def freeze(
    session: AsyncSession, actor: Actor, voucher_id: int, order: FreezeCreate
) -> tuple[Adjustment, date]:
    """Pause a voucher; its last day moves by the length of the pause.

    Raises VoucherNotFound, Forbidden, VoucherNotActive, FreezeOverlaps, and Invalid for a pause
    outside of the voucher's validity.
    """
    voucher, valid_until = await _lock_active(session, actor, voucher_id)
    if not (voucher.valid_from or order.starts_on) <= order.starts_on <= valid_until:
        raise Invalid("starts_on", "must be a day on which the voucher is valid")
    _require_near(order.starts_on, order.ends_on, "ends_on")
    await _require_free(session, voucher, order)
    adjustment = _adjustment(
        voucher,
        actor,
        order.reason,
        kind=AdjustmentKind.FREEZE.value,
        days=(order.ends_on - order.starts_on).days + 1,
        starts_on=order.starts_on,
        ends_on=order.ends_on,
    )
    return await _apply(session, voucher, adjustment, "FREEZE")


async def extend(
    session: AsyncSession, actor: Actor, voucher_id: int, order: ExtensionCreate
) -> tuple[Adjustment, date]:
    """Give a voucher a later last day.

    Raises VoucherNotFound, Forbidden, VoucherNotActive, and Invalid for a day that is not later.
    """
    voucher, valid_until = await _lock_active(session, actor, voucher_id)
    if order.valid_until <= valid_until:
        raise Invalid("valid_until", f"must be later than {valid_until}")
    _require_near(valid_until, order.valid_until, "valid_until")
    adjustment = _adjustment(
        voucher,
        actor,
        order.reason,
        kind=AdjustmentKind.EXTENSION.value,
        days=(order.valid_until - valid_until).days,
    )
    return await _apply(session, voucher, adjustment, "EXTEND")


async def reverse(
    session: AsyncSession, actor: Actor, voucher_id: int, adjustment_id: int
) -> tuple[Adjustment, date]:
    """Take a freeze or an extension back: the voucher's last day moves as it was.

    Raises VoucherNotFound, AdjustmentNotFound, Forbidden, VoucherNotActive,
    AdjustmentAlreadyReversed, SessionsBeyondValidity.
    """
    voucher, valid_until = await _lock_active(session, actor, voucher_id)
    adjustment = await queries.get_adjustment(session, voucher, adjustment_id)
    if adjustment.reversed_at is not None:
        raise AdjustmentAlreadyReversed
    earlier = valid_until - timedelta(days=adjustment.days)
    first_lost = earlier + timedelta(days=1)
    if await queries.took_place_between(session, voucher, first_lost, date.max):
        raise SessionsBeyondValidity
    adjustment.reversed_at, adjustment.reversed_by = now(), actor.user_id
    voucher.valid_until = earlier
    record(session, "REVERSE", voucher, adjustment_id=adjustment.id, kind=adjustment.kind)
    await session.flush()
    return adjustment, earlier


async def _lock_active(
    session: AsyncSession, actor: Actor, voucher_id: int
) -> tuple[Voucher, date]:
    voucher = await lock_managed(session, actor, voucher_id)
    if voucher.status != VoucherStatus.ACTIVE or voucher.valid_until is None:
        raise VoucherNotActive
    return voucher, voucher.valid_until


def _require_near(start: date, end: date, field: str) -> None:
    if end - start > FURTHEST or end > date.max - FURTHEST:
        raise Invalid(field, "is too far in the future")


async def _require_free(session: AsyncSession, voucher: Voucher, order: FreezeCreate) -> None:
    first, last = order.starts_on, order.ends_on
    for other in await queries.freezes_of(session, [voucher.id]):
        if other.starts_on and other.ends_on and first <= other.ends_on and other.starts_on <= last:
            raise FreezeOverlaps
    if await queries.took_place_between(session, voucher, first, last):
        raise FreezeOverlaps


def _adjustment(
    voucher: Voucher,
    actor: Actor,
    reason: str,
    *,
    kind: str,
    days: int,
    starts_on: date | None = None,
    ends_on: date | None = None,
) -> Adjustment:
    return Adjustment(
        organization_id=voucher.organization_id,
        voucher_id=voucher.id,
        client_id=voucher.client_id,
        kind=kind,
        days=days,
        starts_on=starts_on,
        ends_on=ends_on,
        reason=reason,
        made_by=actor.user_id,
    )


async def _apply(
    session: AsyncSession, voucher: Voucher, adjustment: Adjustment, action: str
) -> tuple[Adjustment, date]:
    assert voucher.valid_until is not None
    session.add(adjustment)
    await session.flush()
    voucher.valid_until = voucher.valid_until + timedelta(days=adjustment.days)
    details = {
        name: value.isoformat() if isinstance(value, date) else value
        for name in ("starts_on", "ends_on", "days", "reason")
        if (value := getattr(adjustment, name)) is not None
    }
    record(
        session,
        action,
        voucher,
        client_id=voucher.client_id,
        adjustment_id=adjustment.id,
        **details,
    )
    await session.flush()
    return adjustment, voucher.valid_until
