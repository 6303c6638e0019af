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
    attestation: Attestation | None = None,
) -> None:
    """Settle a locked, booked reservation: remove its earmark, redeem the charge, record both."""
    reservation, voucher = place.reservation, place.voucher
    if voucher is not None and charge != "none":
        redemption = await _redeem(session, place, voucher, status, SessionKind(charge), settled_by)
        reservation.redemption_id = redemption.id
    elif voucher is not None:
        voucher.booked_sessions -= 1
    reservation.status = status
    reservation.settled_at, reservation.settled_by = now(), settled_by
    reservation.attestation = attestation
    details = balance_of(reservation, voucher)
    record(session, _ACTIONS[status], reservation, charge=charge, **details)


async def _redeem(
    session: AsyncSession,
    place: Place,
    voucher: Voucher,
    status: ReservationStatus,
    kind: SessionKind,
    settled_by: int | None,
) -> Redemption:
    """Redeem a session of a locked voucher in place of the earmark."""
    code = await queries.find_unused_code(session, voucher, kind)
    # Together, before anything is flushed: the database compares the two with the total.
    voucher.booked_sessions -= 1
    voucher.spend(kind)
    if voucher.regular_sessions_left == 0 and voucher.status == VoucherStatus.ACTIVE:
        voucher.status = VoucherStatus.COMPLETED
        record(session, "COMPLETE", voucher)
    therapist_id = place.session.therapist_id or settled_by
    redemption = Redemption(
        organization_id=voucher.organization_id,
        voucher_id=voucher.id,
        client_id=voucher.client_id,
        voucher_code_id=code.id if code else None,
        kind=kind,
        session_date=place.session.starts_at.astimezone(ZoneInfo(place.session.timezone)).date(),
        therapist_id=therapist_id,
        reason=_REASONS.get(status),
        reservation_id=place.reservation.id,
    )
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
        await queries.mark_code_used(session, code.id, VoucherCode.use_by(therapist_id or 0))
    return redemption
