"""Writing a reservation that was judged: its session on demand, its seat and its earmark.

Everything that it changes is locked already; see `booking`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies
from services.vouchers.models import ClassSession, Occupation, Reservation, Resource, Voucher
from services.vouchers.scheduling.periods import period_of
from services.vouchers.scheduling.reasons import ReasonCode
from services.vouchers.scheduling.snapshots import (
    OPEN_STATUSES,
    RequestedSession,
    ReservationStatus,
)
from services.vouchers.service.booking_conflicts import send_booking
from services.vouchers.service.booking_frame import BookingFrame
from services.vouchers.service.locked_sessions import balance_of
from services.vouchers.service.occupations import (
    Placement,
    occupation_columns,
    session_columns,
)
from services.vouchers.service.reservation_states import ReservationState, accepted_state
from shared.actors import Actor
from shared.detached import detached, values_of
from shared.pending_writes import WrittenRow
from shared.writes import Writes

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

    The voucher is detached and, if something is booked, locked. Without a state the reservation is
    booked, or held until the organization approves it.
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

    All of it is one statement. The voucher is detached and is changed; the reservation and its
    session are returned detached. A reservation in the waiting list takes and earmarks nothing.
    Raises the Conflict of the constraint that refuses it.
    """
    writes, voucher = Writes(session), order.voucher
    state = order.state_at(target.requested.starts_at)
    seats = 1 if state.status in OPEN_STATUSES else 0
    before = values_of(voucher)
    voucher.booked_sessions += seats
    if target.row is None:
        row = add_session(writes, order.frame, target, seats_taken=seats)
    else:
        row = take_seats(writes, target.row, seats)
    columns = _columns_of(order, target, state, row.id)
    reservation = detached(Reservation, columns)
    written = writes.insert(
        Reservation,
        columns,
        action=_ACTIONS[state.status],
        details=balance_of(reservation, voucher),
    )
    earmarked = writes.change(Voucher, before, values_of(voucher), action=None)
    await send_booking(writes)
    vars(voucher).update(earmarked.values)
    return detached(Reservation, written.values), detached(ClassSession, row.values)


def take_seats(writes: Writes, row: ClassSession, number: int) -> WrittenRow:
    """Add the change of the seats that are taken in a locked session, by a number of them."""
    before = values_of(row)
    new = {"seats_taken": before["seats_taken"] + number}
    return writes.change(ClassSession, before, new, action=None)


def add_session(
    writes: Writes, frame: BookingFrame, target: Target, *, seats_taken: int
) -> WrittenRow:
    """Add the session on demand that a client books, and what blocks its therapist's time."""
    assert target.therapist is not None
    wish = target.requested
    placement = Placement(frame.zone, wish.starts_at, wish.ends_at, [target.therapist])
    columns = session_columns(
        frame.organization_id, placement, capacity=1, on_demand=True, seats_taken=seats_taken
    )
    row = writes.insert(ClassSession, columns, action="CREATE")
    writes.insert_many(Occupation, occupation_columns(frame.organization_id, row.id, placement))
    return row


def _columns_of(
    order: Order, target: Target, state: ReservationState, session_id: int
) -> dict[str, Any]:
    """Return the columns of a reservation of a session in a state."""
    voucher, wish = order.voucher, target.requested
    return {
        "organization_id": voucher.organization_id,
        "client_id": voucher.client_id,
        "guardian_id": voucher.guardian_id,
        "voucher_id": voucher.id,
        "session_id": session_id,
        "starts_at": wish.starts_at,
        "ends_at": wish.ends_at,
        "status": state.status,
        "held_for": state.held_for,
        "held_until": state.held_until,
        "booked_by": order.actor.user_id,
        "override_reason": order.override_reason if order.overridden else None,
        **rule_columns(voucher, order.frame, wish.starts_at, order.overridden),
    }


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
