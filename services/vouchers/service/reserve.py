"""Writing a reservation that was judged: its session on demand, its seat and its earmark.

Everything that it changes is locked already; see `booking`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies
from services.vouchers.models import ClassSession, Reservation, Resource, Voucher
from services.vouchers.scheduling.periods import period_of
from services.vouchers.scheduling.reasons import ReasonCode
from services.vouchers.scheduling.snapshots import (
    OPEN_STATUSES,
    RequestedSession,
    ReservationStatus,
)
from services.vouchers.service.booking_frame import BookingFrame
from services.vouchers.service.locked_sessions import balance_of
from services.vouchers.service.occupations import Placement, new_session, occupy
from services.vouchers.service.reservation_states import ReservationState, accepted_state
from shared.actors import Actor
from shared.changes import record

_ACTIONS = {
    ReservationStatus.WAITLISTED: "WAIT",
    ReservationStatus.HELD: "HOLD",
    ReservationStatus.BOOKED: "BOOK",
}


@dataclass(frozen=True, slots=True)
class Target:
    """The session that is wanted: a row that is locked, or a time with a locked therapist."""

    requested: RequestedSession
    row: ClassSession | None = None
    therapist: Resource | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Who books with which voucher, and the codes of the reasons that were overridden.

    Without a state the reservation is booked, or held until the organization approves it.
    """

    actor: Actor
    voucher: Voucher
    frame: BookingFrame
    overridden: Collection[str] = ()
    override_reason: str | None = None
    state: ReservationState | None = None

    def state_at(self, starts_at: datetime) -> ReservationState:
        """Return the state of the new reservation of a session that begins then."""
        by_client = policies.is_own(self.actor, self.voucher)
        return self.state or accepted_state(self.frame, starts_at, by_client=by_client)


async def reserve(
    session: AsyncSession, order: Order, target: Target
) -> tuple[Reservation, ClassSession]:
    """Take a seat in a session that was judged, and earmark a session of the locked voucher.

    A reservation in the waiting list takes and earmarks nothing.
    """
    voucher = order.voucher
    row = target.row or await make_session(session, order.frame, target)
    reservation = _new_reservation(order, row)
    if reservation.status in OPEN_STATUSES:
        row.seats_taken += 1
        voucher.booked_sessions += 1
    session.add(reservation)
    action = _ACTIONS[ReservationStatus(reservation.status)]
    record(session, action, reservation, **balance_of(reservation, voucher))
    return reservation, row


async def make_session(session: AsyncSession, frame: BookingFrame, target: Target) -> ClassSession:
    """Make the session on demand that a client books, and block its therapist's time."""
    assert target.therapist is not None
    wish = target.requested
    placement = Placement(frame.zone, wish.starts_at, wish.ends_at, [target.therapist])
    row = new_session(frame.organization_id, placement, capacity=1, on_demand=True)
    session.add(row)
    record(session, "CREATE", row)
    await session.flush()
    await occupy(session, row, placement, enforced=True)
    return row


def _new_reservation(order: Order, row: ClassSession) -> Reservation:
    """Return the reservation of a session in the state of the order."""
    voucher, state = order.voucher, order.state_at(row.starts_at)
    return Reservation(
        organization_id=voucher.organization_id,
        client_id=voucher.client_id,
        guardian_id=voucher.guardian_id,
        voucher_id=voucher.id,
        session_id=row.id,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        status=state.status,
        held_for=state.held_for,
        held_until=state.held_until,
        booked_by=order.actor.user_id,
        override_reason=order.override_reason if order.overridden else None,
        **rule_columns(voucher, order.frame, row.starts_at, order.overridden),
    )


def rule_columns(
    voucher: Voucher, frame: BookingFrame, starts_at: datetime, overridden: Collection[str]
) -> dict[str, Any]:
    """Return the columns by which the database enforces the rules that were not overridden."""
    day = starts_at.astimezone(frame.zone).date()
    period = period_of(voucher.frequency, day, voucher.valid_from)
    return {
        "overrides": list(overridden),
        "period": None if ReasonCode.FREQUENCY_REACHED in overridden else period,
        "may_overlap": ReasonCode.CLIENT_BUSY in overridden,
    }
