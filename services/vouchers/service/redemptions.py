"""Use cases of the ledger: spend a session, take one back."""

from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import (
    CodeAlreadyUsed,
    CodeRefunded,
    RedemptionAlreadyReversed,
    VoucherCancelled,
    VoucherDisputed,
    VoucherExhausted,
    VoucherExpired,
    VoucherFrozen,
    VoucherNotYetValid,
    VoucherUnpaid,
)
from services.vouchers.models import Redemption, SessionKind, Voucher, VoucherCode, VoucherStatus
from services.vouchers.schemas.redemptions import RedemptionCreate
from services.vouchers.service import refunds
from services.vouchers.service.calendar import day_in, freeze_on
from services.vouchers.service.vouchers import lock_managed, lock_readable
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Conflict, Forbidden, Invalid

_REFUSALS: dict[str, type[Conflict]] = {
    VoucherStatus.PENDING: VoucherUnpaid,
    VoucherStatus.CANCELLED: VoucherCancelled,
}

Spent = tuple[Redemption, str | None, Voucher]
"""A redemption, its code, and the voucher after it."""


async def redeem(
    session: AsyncSession, actor: Actor, voucher_id: int, order: RedemptionCreate
) -> Spent:
    """Spend one session: of two that race for the last one, the voucher's lock lets one through.

    Raises VoucherNotFound, Forbidden, CodeNotFound, CodeAlreadyUsed, CodeRefunded, VoucherUnpaid,
    VoucherCancelled, VoucherExpired, VoucherDisputed, VoucherNotYetValid, VoucherFrozen,
    VoucherExhausted, and Invalid for a kind that contradicts the code, a backup session without
    a reason or a day that has not come yet.
    """
    voucher = await lock_readable(session, actor, voucher_id)
    if not policies.can_redeem(actor, voucher.organization_id):
        raise Forbidden("therapists and those with the permission manage_vouchers redeem")
    code = await queries.get_code(session, voucher, order.code) if order.code else None
    kind = _kind(order, code)
    # A used code is the plainest thing to be told, whatever else is wrong by now.
    if code is not None and code.is_used:
        raise CodeAlreadyUsed
    if code is not None and code.is_refunded:
        raise CodeRefunded
    day = await _day(session, voucher, order)
    # What took place before the end may be entered after it, if the day is said.
    if voucher.status == VoucherStatus.EXPIRED and order.session_date is None:
        raise _expired(voucher)
    await _require_valid(session, voucher, kind, day)
    code = code or await queries.next_code(session, voucher, kind)
    redemption = _spend(voucher, kind, code, actor.user_id)
    redemption.session_date, redemption.note = day, order.note
    redemption.reason = order.reason.value if order.reason else None
    session.add(redemption)
    _record_spending(session, redemption, voucher)
    await session.flush()
    return redemption, code.code if code else None, voucher


def _kind(order: RedemptionCreate, code: VoucherCode | None) -> str:
    """Return the kind to spend: the code's, the one asked for, or a regular session."""
    kind = order.kind or (code.kind if code else SessionKind.REGULAR)
    if code is not None and code.kind != kind:
        raise Invalid("kind", f"the code stands for a {code.kind} session")
    if kind == SessionKind.BACKUP and order.reason is None:
        raise Invalid("reason", "a backup session needs one: missed or late_cancelled")
    return str(kind)


async def _day(session: AsyncSession, voucher: Voucher, order: RedemptionCreate) -> date:
    """Return the day of the session, today by default.

    Raises Invalid for a day after today in the organization's time zone: a redemption says that
    a session took place.
    """
    organization = await queries.get_organization(session, voucher.organization_id)
    today = day_in(organization.timezone, now())
    if order.session_date is not None and order.session_date > today:
        raise Invalid("session_date", f"must not be after today, {today}")
    return order.session_date or today


async def _require_valid(session: AsyncSession, voucher: Voucher, kind: str, day: date) -> None:
    if refusal := _REFUSALS.get(voucher.status):
        raise refusal
    if voucher.status == VoucherStatus.COMPLETED:
        raise VoucherExhausted("The voucher is completed: its last regular session was used.")
    if voucher.disputed_at is not None:
        raise VoucherDisputed
    if voucher.valid_from is not None and day < voucher.valid_from:
        raise VoucherNotYetValid(f"The voucher is valid from {voucher.valid_from}.")
    if voucher.valid_until is not None and day > voucher.valid_until:
        raise _expired(voucher)
    if freeze := freeze_on(day, await queries.freezes_of(session, [voucher.id])):
        raise VoucherFrozen(f"The voucher is frozen from {freeze.starts_on} to {freeze.ends_on}.")
    if voucher.regular_sessions_left < 1:
        raise VoucherExhausted("The money for the sessions that are left is being given back.")
    if voucher.sessions_left(kind) < 1:
        raise VoucherExhausted(f"Every {kind} session has been used.")


def _expired(voucher: Voucher) -> VoucherExpired:
    return VoucherExpired(f"The voucher's last day is {voucher.valid_until}.")


def _spend(voucher: Voucher, kind: str, code: VoucherCode | None, user_id: int) -> Redemption:
    voucher.spend(kind)
    if code is not None:
        code.use(user_id)
    return Redemption(
        organization_id=voucher.organization_id,
        voucher_id=voucher.id,
        client_id=voucher.client_id,
        voucher_code_id=code.id if code else None,
        kind=kind,
        therapist_id=user_id,
    )


def _record_spending(session: AsyncSession, redemption: Redemption, voucher: Voucher) -> None:
    record(session, "REDEEM", redemption, **_balance(voucher))
    # An expired one stays what it is, used up or not.
    if voucher.regular_sessions_left == 0 and voucher.status == VoucherStatus.ACTIVE:
        voucher.status = VoucherStatus.COMPLETED.value
        record(session, "COMPLETE", voucher)


def _balance(voucher: Voucher) -> dict[str, int]:
    return {
        "regular_sessions_left": voucher.regular_sessions_left,
        "backup_sessions_left": voucher.backup_sessions_left,
    }


async def reverse(
    session: AsyncSession, actor: Actor, voucher_id: int, redemption_id: int, note: str | None
) -> Spent:
    """Take a redemption back by a row that reverses it: session and code are free again.

    Raises VoucherNotFound, RedemptionNotFound, Forbidden, RedemptionAlreadyReversed.
    """
    voucher = await lock_managed(session, actor, voucher_id)
    spent = await queries.get_redemption(session, voucher, redemption_id)
    if spent.reversal_of is not None or await queries.is_reversed(session, spent):
        raise RedemptionAlreadyReversed
    code = await queries.code_with_id(session, voucher, spent.voucher_code_id)
    # From here on no query before the end: a flush halfway would show the database a half change.
    voucher.spend(spent.kind, -1)
    if code is not None:
        code.free()
    reversal = _reversal(spent, actor.user_id, note)
    session.add(reversal)
    record(session, "REVERSE", reversal, **_balance(voucher))
    await refunds.reopen(session, voucher)
    await session.flush()
    return reversal, code.code if code else None, voucher


def _reversal(spent: Redemption, user_id: int, note: str | None) -> Redemption:
    return Redemption(
        organization_id=spent.organization_id,
        voucher_id=spent.voucher_id,
        client_id=spent.client_id,
        voucher_code_id=spent.voucher_code_id,
        kind=spent.kind,
        session_date=spent.session_date,
        therapist_id=user_id,
        reversal_of=spent.id,
        note=note,
    )
