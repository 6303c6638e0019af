"""Use cases of redemptions: redeem a session, reverse a redemption, list them."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    CodeAlreadyUsed,
    CodeRefunded,
    CodeTransferred,
    OrganizationNotFound,
    RedemptionAlreadyReversed,
    SessionsBooked,
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
from services.vouchers.service.redeemed_reservations import (
    find_booked,
    lock_reopenable,
    reopen,
    settle_by_redemption,
)
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.detached import detached, values_of
from shared.errors import Conflict, Forbidden, Invalid
from shared.paging import Page
from shared.reads import Reader
from shared.writes import Writes

_REFUSALS: dict[str, type[Conflict]] = {
    VoucherStatus.PENDING: VoucherUnpaid,
    VoucherStatus.CANCELLED: VoucherCancelled,
}


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A new redemption or reversal, its code if it has one, and the voucher after it."""

    redemption: Redemption
    code: str | None
    voucher: Voucher


async def list_redemptions(reader: Reader, actor: Actor, page: Page, voucher_id: int) -> bytes:
    """Return a page of a voucher's redemptions as JSON, newest first, for the client without notes.

    Raises VoucherNotFound.
    """
    parties = await access.get_readable_parties(reader, actor, voucher_id)
    with_notes = policies.can_read_notes(actor, parties)
    return await queries.page_of_redemptions(
        reader, page, parties.organization_id, voucher_id, with_notes=with_notes
    )


async def redeem(
    session: AsyncSession, actor: Actor, voucher_id: int, body: RedemptionCreate
) -> LedgerEntry:
    """Redeem one session. The voucher's lock serializes requests for the last session.

    If the voucher has a booked reservation on that day, the redemption settles it. Otherwise it
    uses a session that is not booked.

    Raises VoucherNotFound, Forbidden, CodeNotFound, CodeAlreadyUsed, CodeRefunded,
    CodeTransferred, VoucherUnpaid, VoucherCancelled, VoucherExpired, VoucherDisputed,
    VoucherNotYetValid, VoucherFrozen, VoucherExhausted, SessionsBooked, OrganizationNotFound,
    ReservationNotFound, ReservationSettled, and Invalid for a kind that contradicts the code, a
    backup session without a reason, a day in the future, and a day with several reservations of
    which none is named.
    """
    voucher, zone = await access.lock_readable_voucher_with_zone(session, actor, voucher_id)
    if not policies.can_redeem(actor, voucher.organization_id):
        raise Forbidden("Only therapists and users with the permission manage_vouchers redeem.")
    if zone is None:
        raise OrganizationNotFound
    code = await queries.get_code(session, voucher, body.code) if body.code else None
    kind = _kind_of(body, code)
    day = _day_of(zone, body)
    # A session before the voucher's last day may be entered afterwards, if the day is stated.
    if voucher.status == VoucherStatus.EXPIRED and body.session_date is None:
        raise _expired(voucher)
    place = await find_booked(session, voucher, zone, day, body.reservation_id)
    await _require_valid(session, voucher, kind, day, is_booked=place is not None)
    code = code or await queries.find_unused_code(session, voucher, kind)
    text = code.code if code else None
    if place is not None:
        entry = await settle_by_redemption(session, actor, place, body, kind, code)
        return LedgerEntry(entry[0], text, entry[1])
    redemption = await _write_redemption(
        session,
        voucher,
        code,
        voucher_code_id=code.id if code else None,
        kind=kind,
        session_date=day,
        therapist_id=actor.user_id,
        reason=body.reason,
        note=body.note,
    )
    return LedgerEntry(redemption, text, voucher)


async def _write_redemption(
    session: AsyncSession, voucher: Voucher, code: VoucherCode | None, **values: Any
) -> Redemption:
    """Use a session of a locked voucher and its code, and write all of it in one statement."""
    writes, before = Writes(session), values_of(voucher)
    owner = {name: before[name] for name in ("organization_id", "client_id")}
    voucher.spend(values["kind"])
    # An expired voucher stays expired, even without sessions left.
    is_completed = voucher.regular_sessions_left == 0 and voucher.status == VoucherStatus.ACTIVE
    if is_completed:
        voucher.status = VoucherStatus.COMPLETED
    if code is not None:
        use = VoucherCode.use_by(values["therapist_id"])
        writes.update(VoucherCode, use, where={"id": code.id})
    redemption = writes.insert(
        Redemption,
        {**owner, "voucher_id": voucher.id, **values},
        action="REDEEM",
        details=_balance_of(voucher),
    )
    action = "COMPLETE" if is_completed else None
    writes.change(Voucher, before, values_of(voucher), action=action)
    await writes.send()
    return detached(Redemption, redemption.values)


def _kind_of(body: RedemptionCreate, code: VoucherCode | None) -> SessionKind:
    """Return the kind to redeem: the requested one, that of the code, or a regular session.

    Raises CodeAlreadyUsed, CodeRefunded, CodeTransferred, and Invalid.
    """
    kind = body.kind or (code.kind if code else SessionKind.REGULAR)
    if code is not None and code.kind != kind:
        raise Invalid("kind", f"must be {code.kind}, the kind of the code's session")
    if kind == SessionKind.BACKUP and body.reason is None:
        raise Invalid("reason", "is required for a backup session: missed or late_cancelled")
    # Of several refusals, that of the code is the clearest for the therapist who typed it.
    if code is not None and code.is_used:
        raise CodeAlreadyUsed
    if code is not None and code.is_refunded:
        raise CodeRefunded
    if code is not None and code.is_transferred:
        raise CodeTransferred
    return kind


def _day_of(zone: str, body: RedemptionCreate) -> date:
    """Return the day of the session, today by default.

    Raises Invalid for a day after today in the organization's time zone: a redemption states that
    a session took place.
    """
    today = day_in(zone, now())
    if body.session_date is not None and body.session_date > today:
        raise Invalid("session_date", f"must not be after today, {today}")
    return body.session_date or today


async def _require_valid(
    session: AsyncSession, voucher: Voucher, kind: SessionKind, day: date, *, is_booked: bool
) -> None:
    """Raise the error that states why a session of a kind cannot be redeemed on a day.

    A session that is booked has been counted already.
    """
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
        raise VoucherExhausted("The money for the remaining sessions is being refunded.")
    if voucher.sessions_left(kind) < 1:
        raise VoucherExhausted(f"Every {kind} session has been used.")
    if kind == SessionKind.REGULAR and not is_booked and voucher.bookable_sessions < 1:
        raise SessionsBooked


def _expired(voucher: Voucher) -> VoucherExpired:
    return VoucherExpired(f"The voucher's last day is {voucher.valid_until}.")


def _balance_of(voucher: Voucher) -> dict[str, int]:
    return {
        "regular_sessions_left": voucher.regular_sessions_left,
        "backup_sessions_left": voucher.backup_sessions_left,
    }


async def reverse(
    session: AsyncSession, actor: Actor, voucher_id: int, redemption_id: int, note: str | None
) -> LedgerEntry:
    """Reverse a redemption by a row of its own: the session and its code are usable again.

    The reservation that it settled is booked again, if it can be. Raises VoucherNotFound,
    RedemptionNotFound, Forbidden, RedemptionAlreadyReversed.
    """
    voucher = await access.lock_managed_voucher(session, actor, voucher_id)
    redemption = await queries.get_redemption(session, voucher, redemption_id)
    if redemption.reversal_of is not None or await queries.is_reversed(session, redemption):
        raise RedemptionAlreadyReversed
    code = await queries.find_code(session, voucher, redemption.voucher_code_id)
    place = await lock_reopenable(session, voucher, redemption)
    # No query from here on: its flush would write half of the change, which the database refuses.
    voucher.spend(redemption.kind, -1)
    if code is not None:
        code.free()
    if place is not None:
        reopen(session, place)
    reversal = _reversal_of(redemption, actor.user_id, note)
    session.add(reversal)
    record(session, "REVERSE", reversal, **_balance_of(voucher))
    await refunds.reopen(session, voucher)
    await session.flush()
    return LedgerEntry(reversal, code.code if code else None, voucher)


def _reversal_of(redemption: Redemption, user_id: int, note: str | None) -> Redemption:
    return Redemption(
        organization_id=redemption.organization_id,
        voucher_id=redemption.voucher_id,
        client_id=redemption.client_id,
        voucher_code_id=redemption.voucher_code_id,
        kind=redemption.kind,
        session_date=redemption.session_date,
        therapist_id=user_id,
        reversal_of=redemption.id,
        reservation_id=redemption.reservation_id,
        note=note,
    )
