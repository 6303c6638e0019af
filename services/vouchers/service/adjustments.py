"""Use cases of a voucher's validity: freeze, extend, reverse either, list them."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.errors import (
    AdjustmentAlreadyReversed,
    FreezeOverlaps,
    LeastValidityUndercut,
    ReservationsInFreeze,
    SessionsBeyondValidity,
    VoucherDisputed,
    VoucherExhausted,
    VoucherNotActive,
)
from services.vouchers.models import (
    Adjustment,
    AdjustmentKind,
    PaymentStatus,
    Voucher,
    VoucherStatus,
)
from services.vouchers.schemas.redemptions import ExtensionCreate, FreezeCreate
from services.vouchers.service.calendar import day_in
from services.vouchers.service.releases import release_reservations
from services.vouchers.service.reservations import read_reservation
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Conflict, Invalid
from shared.reads import Reader

VOUCHER_FROZEN = "voucher_frozen"
MAX_EXTENSION = timedelta(days=36_500)
"""How far a voucher's last day can be moved at once."""

_ADJUSTABLE = (VoucherStatus.ACTIVE, VoucherStatus.EXPIRED)


async def list_adjustments(reader: Reader, actor: Actor, voucher_id: int) -> bytes:
    """Return a voucher's freezes and extensions as JSON, newest first; raises VoucherNotFound."""
    parties = await access.get_readable_parties(reader, actor, voucher_id)
    return await queries.list_adjustments(reader, parties.organization_id, voucher_id)


async def freeze(
    session: AsyncSession, actor: Actor, voucher_id: int, body: FreezeCreate
) -> tuple[Adjustment, date]:
    """Freeze a voucher; its last day moves by the length of the freeze. Return both.

    The reservations of its days are released first, if the body states so.

    Raises VoucherNotFound, Forbidden, VoucherNotActive, FreezeOverlaps, ReservationsInFreeze, and
    Invalid for a freeze that does not begin within the voucher's validity.
    """
    voucher, valid_until = await _lock_adjustable(session, actor, voucher_id)
    if voucher.status != VoucherStatus.ACTIVE:
        raise VoucherNotActive("The voucher has expired. Extend it before you freeze it.")
    if not (voucher.valid_from or body.starts_on) <= body.starts_on <= valid_until:
        raise Invalid("starts_on", "must be a day on which the voucher is valid")
    _require_near(body.starts_on, body.ends_on, "ends_on")
    await _require_no_overlap(session, voucher, body.starts_on, body.ends_on)
    places = await _places_between(session, voucher, body.starts_on, body.ends_on)
    if places and not body.release_reservations:
        raise _with_places(ReservationsInFreeze(), places)
    reservations = [reservation for reservation, _, _ in places]
    await release_reservations(session, reservations, {voucher.id: voucher}, VOUCHER_FROZEN)
    adjustment = _adjustment(
        voucher,
        actor,
        body.reason,
        kind=AdjustmentKind.FREEZE,
        days=(body.ends_on - body.starts_on).days + 1,
        starts_on=body.starts_on,
        ends_on=body.ends_on,
    )
    return await _apply(session, voucher, adjustment, "FREEZE")


async def _require_no_overlap(
    session: AsyncSession, voucher: Voucher, first: date, last: date
) -> None:
    """Raise FreezeOverlaps if a voucher is frozen or a session took place on one of some days."""
    for other in await queries.freezes_of(session, [voucher.id]):
        assert other.starts_on is not None
        assert other.ends_on is not None
        if first <= other.ends_on and other.starts_on <= last:
            raise FreezeOverlaps
    if await queries.has_sessions_between(session, voucher, first, last):
        raise FreezeOverlaps


async def _places_between(
    session: AsyncSession, voucher: Voucher, first: date, last: date | None
) -> list[queries.ReservationPlace]:
    """Return the open reservations of a locked voucher on days of the organization, both inclusive.

    Without a last day they are those from the first one on.
    """
    if not voucher.booked_sessions:
        return []
    organization = await queries.get_organization(session, voucher.organization_id)
    zone = ZoneInfo(organization.timezone)
    return await queries.places_of_voucher(
        session,
        voucher,
        first=datetime.combine(first, time.min, zone),
        last=datetime.combine(last + timedelta(days=1), time.min, zone) if last else None,
    )


def _with_places(error: Conflict, places: Sequence[queries.ReservationPlace]) -> Conflict:
    """Return an error with the reservations that are its reason."""
    rows = [read_reservation(*place).model_dump(mode="json") for place in places]
    error.members = {"reservations": rows}
    return error


async def extend(
    session: AsyncSession, actor: Actor, voucher_id: int, body: ExtensionCreate
) -> tuple[Adjustment, date]:
    """Move a voucher's last day to a later one. Return the extension and the day.

    An expired voucher is active again. Raises VoucherNotFound, Forbidden, VoucherNotActive,
    OrganizationNotFound (its time zone is unknown), VoucherExhausted and VoucherDisputed (an
    expired voucher without sessions, or whose money is lost), and Invalid for a day that is not
    later or, for an expired voucher, is over.
    """
    voucher, valid_until = await _lock_adjustable(session, actor, voucher_id)
    if body.valid_until <= valid_until:
        raise Invalid("valid_until", f"must be later than {valid_until}")
    _require_near(valid_until, body.valid_until, "valid_until")
    if voucher.status == VoucherStatus.EXPIRED:
        await _require_revivable(session, voucher, body.valid_until)
    adjustment = _adjustment(
        voucher,
        actor,
        body.reason,
        kind=AdjustmentKind.EXTENSION,
        days=(body.valid_until - valid_until).days,
    )
    return await _apply(session, voucher, adjustment, "EXTEND")


async def reverse(
    session: AsyncSession,
    actor: Actor,
    voucher_id: int,
    adjustment_id: int,
    reason: str | None,
) -> tuple[Adjustment, date]:
    """Reverse a freeze or an extension. Return it and the voucher's earlier last day.

    An expired voucher stays expired; a session on a day that is not frozen any more can be entered.
    Raises VoucherNotFound, AdjustmentNotFound, Forbidden, VoucherNotActive,
    AdjustmentAlreadyReversed, LeastValidityUndercut, SessionsBeyondValidity, and Invalid for an
    expired voucher without a reason.
    """
    voucher, valid_until = await _lock_adjustable(session, actor, voucher_id)
    if voucher.status == VoucherStatus.EXPIRED and reason is None:
        raise Invalid("reason", "is required: the voucher has expired")
    adjustment = await queries.get_adjustment(session, voucher, adjustment_id)
    if adjustment.reversed_at is not None:
        raise AdjustmentAlreadyReversed
    earlier = valid_until - timedelta(days=adjustment.days)
    if voucher.least_valid_until is not None and earlier < voucher.least_valid_until:
        raise LeastValidityUndercut
    first_lost = earlier + timedelta(days=1)
    places = await _places_between(session, voucher, first_lost, None)
    if places or await queries.has_sessions_between(session, voucher, first_lost, date.max):
        raise _with_places(SessionsBeyondValidity(), places)
    adjustment.reversed_at, adjustment.reversed_by = now(), actor.user_id
    voucher.valid_until = earlier
    record(
        session,
        "REVERSE",
        voucher,
        client_id=voucher.client_id,
        adjustment_id=adjustment.id,
        kind=adjustment.kind,
        reason=reason,
    )
    await session.flush()
    return adjustment, earlier


async def _lock_adjustable(
    session: AsyncSession, actor: Actor, voucher_id: int
) -> tuple[Voucher, date]:
    voucher = await access.lock_managed_voucher(session, actor, voucher_id)
    if voucher.status not in _ADJUSTABLE or voucher.valid_until is None:
        raise VoucherNotActive
    return voucher, voucher.valid_until


async def _require_revivable(session: AsyncSession, voucher: Voucher, last_day: date) -> None:
    """Raise the error that states why an expired voucher cannot be active until a day."""
    organization = await queries.get_organization(session, voucher.organization_id)
    today = day_in(organization.timezone, now())
    if last_day < today:
        raise Invalid("valid_until", f"must not be before today, {today}")
    if voucher.regular_sessions_left < 1:
        raise VoucherExhausted("The voucher has no session left. Sell the client another one.")
    if voucher.payment_status == PaymentStatus.REFUNDED:
        raise VoucherExhausted("The money for the remaining sessions was refunded.")
    if await queries.has_lost_dispute(session, voucher):
        raise VoucherDisputed("The payer's bank has taken the money back. The voucher has ended.")


def _require_near(start: date, end: date, field: str) -> None:
    if end - start > MAX_EXTENSION or end > date.max - MAX_EXTENSION:
        raise Invalid(field, "is too far in the future")


def _adjustment(
    voucher: Voucher,
    actor: Actor,
    reason: str,
    *,
    kind: AdjustmentKind,
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
    voucher.status = VoucherStatus.ACTIVE  # An expired voucher that is extended was not.
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
