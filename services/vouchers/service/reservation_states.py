"""The states of open and waiting reservations: booked, held until a time, in the waiting list."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.vouchers.models import HeldFor, Reservation
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.service.booking_frame import BookingFrame

LAPSED = "lapsed"
"""The reason of a cancelled reservation that nobody confirmed in time."""
DECLINED = "declined"
"""The reason of a cancelled reservation that the organization did not approve, or of an offer that
the client did not take."""


@dataclass(frozen=True, slots=True)
class ReservationState:
    """The state of an open or waiting reservation; a held one waits for something until a time."""

    status: ReservationStatus
    held_for: HeldFor | None = None
    held_until: datetime | None = None

    def apply_to(self, reservation: Reservation) -> None:
        """Give a reservation this state."""
        reservation.status = self.status
        reservation.held_for, reservation.held_until = self.held_for, self.held_until


BOOKED = ReservationState(ReservationStatus.BOOKED)
WAITLISTED = ReservationState(ReservationStatus.WAITLISTED)


def accepted_state(
    frame: BookingFrame, starts_at: datetime, *, by_client: bool
) -> ReservationState:
    """Return the state of a reservation that a client or an employee wants: booked.

    Where the organization approves reservations, one that the client made is held until it does,
    at most until the session begins.
    """
    if frame.policy.approval and by_client:
        return ReservationState(ReservationStatus.HELD, HeldFor.APPROVAL, starts_at)
    return BOOKED


def hold_until(held_for: HeldFor, until: datetime, starts_at: datetime) -> ReservationState:
    """Return the state of a reservation that is held until a time, and not after its start."""
    return ReservationState(ReservationStatus.HELD, held_for, min(until, starts_at))


def checkout_state(frame: BookingFrame, starts_at: datetime) -> ReservationState:
    """Return the state of a reservation that is held while a client decides."""
    until = frame.now + timedelta(minutes=frame.policy.hold_minutes)
    return hold_until(HeldFor.CHECKOUT, until, starts_at)


def rescheduled_hold(reservation: Reservation, starts_at: datetime) -> datetime | None:
    """Return until when a reservation is held if its client moves it to another start.

    A request of approval is held until the new start. The time of another hold is not prolonged,
    although it ends with the old start: it would last for weeks.
    """
    if reservation.held_until is None or reservation.held_for == HeldFor.APPROVAL:
        return moved_hold(reservation, starts_at)
    return min(reservation.held_until, starts_at)


def moved_hold(reservation: Reservation, starts_at: datetime) -> datetime | None:
    """Return until when a reservation is held if the organization moves its session.

    One that is held until its session begins is held until the new start.
    """
    held_until = reservation.held_until
    if held_until is None or held_until == reservation.starts_at:
        return starts_at if held_until else None
    return min(held_until, starts_at)
