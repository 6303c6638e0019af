"""Use cases of attendance: mark who took part in a session and who did not."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import NotStarted, ReservationSettled
from services.vouchers.models import Attestation, ClassSession, SessionStatus
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.schemas.reservations import MarkRead, ReservationResult
from services.vouchers.schemas.sessions import Mark
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.booking_settings import policy_for
from services.vouchers.service.charges import (
    NO_EVIDENCE,
    Charge,
    Evidence,
    Place,
    charge_of,
    settle,
)
from services.vouchers.service.locked_sessions import lock_session
from services.vouchers.service.reservations import get_markable, lock_place, result_of
from services.vouchers.service.sessions import get_changeable
from shared.actors import Actor
from shared.changes import record
from shared.db import now


async def mark_reservation(
    session: AsyncSession,
    actor: Actor,
    reservation_id: int,
    status: ReservationStatus,
    attestation: Attestation = Attestation.STAFF,
) -> ReservationResult:
    """Mark a booked reservation as attended, which somebody attests, or as missed.

    Raises ReservationNotFound, Forbidden, NotStarted, ReservationSettled.
    """
    place = await lock_place(session, await get_markable(session, actor, reservation_id))
    _require_started(place.session)
    await _mark(session, actor, place, status, attestation)
    await flush_booking(session)
    return await result_of(session, place)


async def mark_session(
    session: AsyncSession, actor: Actor, session_id: int, marks: Sequence[Mark]
) -> list[MarkRead]:
    """Mark clients of a session: all marks are applied, or none.

    Raises SessionNotFound, Forbidden, NotStarted, ReservationNotFound, ReservationSettled,
    ServiceUnavailable.
    """
    class_session = await get_changeable(session, actor, session_id)
    _require_started(class_session)
    party = await lock_session(session, class_session)
    reservations = {row.id: row for row in party.reservations}
    results = []
    for mark in sorted(marks, key=lambda each: each.reservation_id):
        reservation = reservations.pop(mark.reservation_id, None)
        if reservation is None:
            await get_markable(session, actor, mark.reservation_id, session_id=session_id)
            raise ReservationSettled
        voucher = party.vouchers.get(reservation.voucher_id or 0)
        place = Place(reservation, party.row, voucher)
        status = ReservationStatus(mark.status)
        charge = await _mark(session, actor, place, status, mark.attestation)
        results.append(
            MarkRead(
                reservation_id=reservation.id,
                status=ReservationStatus(reservation.status),
                charge=charge,
            )
        )
    if not reservations and party.row.ends_at <= now():
        party.row.status = SessionStatus.COMPLETED
        record(session, "COMPLETE", party.row)
    await flush_booking(session)
    return results


def _require_started(class_session: ClassSession) -> None:
    if class_session.starts_at > now():
        raise NotStarted


async def _mark(
    session: AsyncSession,
    actor: Actor,
    place: Place,
    status: ReservationStatus,
    attestation: Attestation,
) -> Charge:
    """Settle a locked reservation as attended or missed; return what it cost."""
    if place.reservation.status != ReservationStatus.BOOKED:
        raise ReservationSettled
    evidence = NO_EVIDENCE
    charge: Charge = "regular" if place.voucher else "none"
    if status == ReservationStatus.NO_SHOW:
        policy = await policy_for(session, place.reservation.organization_id, place.voucher)
        charge = charge_of(policy.no_show, place.voucher)
    else:
        evidence = Evidence(attestation)
    await settle(session, place, status, charge, actor.user_id, evidence=evidence)
    return charge
