"""What a reservation costs when it is settled: an earmark becomes a redemption, or nothing."""

from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import (
    Attestation,
    ClassSession,
    Reason,
    Redemption,
    Reservation,
    SessionKind,
    Voucher,
    VoucherCode,
    VoucherStatus,
)
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.schemas.booking_policy import Penalty
from services.vouchers.service.locked_sessions import balance_of
from shared.changes import record
from shared.db import now

Charge = Literal["none", "backup", "regular"]

_ACTIONS = {
    ReservationStatus.ATTENDED: "ATTEND",
    ReservationStatus.NO_SHOW: "NO_SHOW",
    ReservationStatus.LATE_CANCELLED: "LATE_CANCEL",
}
_REASONS = {
    ReservationStatus.NO_SHOW: Reason.MISSED,
    ReservationStatus.LATE_CANCELLED: Reason.LATE_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A reservation with its session and its voucher."""

    reservation: Reservation
    session: ClassSession
    voucher: Voucher | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who attested that a session took place, the client's code, and the therapist's note."""

    attestation: Attestation | None = None
    code: VoucherCode | None = None
    note: str | None = None


NO_EVIDENCE = Evidence()


def charge_of(penalty: Penalty, voucher: Voucher | None) -> Charge:
    """Return what a penalty takes of a voucher: a backup session, if one is left, or a regular."""
    if voucher is None or penalty == Penalty.NONE:
        return "none"
    if penalty == Penalty.BACKUP_FIRST and voucher.backup_sessions_left > 0:
        return "backup"
    return "regular"


async def settle(
    session: AsyncSession,
    place: Place,
    status: ReservationStatus,
    charge: Charge,
    settled_by: int | None,
    *,
    evidence: Evidence = NO_EVIDENCE,
) -> Redemption | None:
    """Settle a locked, booked reservation: remove its earmark, redeem the charge, record both.

    `settled_by` is a user, or None for the system. Return the redemption, if there is a charge.
    """
    reservation, voucher = place.reservation, place.voucher
    redemption = None
    if voucher is not None and charge != "none":
        redemption = _new_redemption(place, voucher, status, SessionKind(charge), settled_by)
        await _redeem(session, voucher, redemption, evidence)
        reservation.redemption_id = redemption.id
    elif voucher is not None:
        voucher.booked_sessions -= 1
    reservation.status = status
    reservation.settled_at, reservation.settled_by = now(), settled_by
    reservation.attestation = evidence.attestation
    details = balance_of(reservation, voucher)
    record(session, _ACTIONS[status], reservation, charge=charge, **details)
    return redemption


def _new_redemption(
    place: Place,
    voucher: Voucher,
    status: ReservationStatus,
    kind: SessionKind,
    settled_by: int | None,
) -> Redemption:
    """Return the redemption of a reservation, by the therapist of its session."""
    starts_at = place.session.starts_at.astimezone(ZoneInfo(place.session.timezone))
    return Redemption(
        organization_id=voucher.organization_id,
        voucher_id=voucher.id,
        client_id=voucher.client_id,
        kind=kind,
        session_date=starts_at.date(),
        therapist_id=place.session.therapist_id or settled_by,
        reason=_REASONS.get(status),
        reservation_id=place.reservation.id,
    )


async def _redeem(
    session: AsyncSession, voucher: Voucher, redemption: Redemption, evidence: Evidence
) -> None:
    """Redeem a session of a locked voucher in place of the earmark."""
    kind = SessionKind(redemption.kind)
    code = evidence.code or await queries.find_unused_code(session, voucher, kind)
    # Together, before anything is flushed: the database compares the two with the total.
    voucher.booked_sessions -= 1
    voucher.spend(kind)
    if voucher.regular_sessions_left == 0 and voucher.status == VoucherStatus.ACTIVE:
        voucher.status = VoucherStatus.COMPLETED
        record(session, "COMPLETE", voucher)
    redemption.voucher_code_id = code.id if code else None
    redemption.note = evidence.note
    session.add(redemption)
    record(
        session,
        "REDEEM",
        redemption,
        regular_sessions_left=voucher.regular_sessions_left,
        backup_sessions_left=voucher.backup_sessions_left,
    )
    await session.flush()
    if code is not None:
        await queries.mark_code_used(session, code.id, VoucherCode.use_by(redemption.therapist_id))
