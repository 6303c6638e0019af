"""Which voucher pays for an open reservation of version 1: a pure function."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class UnpaidReservation:
    """A reservation that has not taken place. `day` is that of its start on the local clock.

    `code_voucher_id` is the voucher of its code, and `is_code_used` whether that code was used.
    """

    id: int
    organization_id: int
    client_id: int
    therapy_class_id: int | None
    starts_at: datetime
    day: date
    code_voucher_id: int | None
    is_code_used: bool


@dataclass(slots=True)
class Purse:
    """An active voucher with its sessions that are neither used nor booked."""

    id: int
    organization_id: int
    client_id: int
    therapy_class_id: int | None
    valid_until: date
    bookable: int

    def pays_for(self, reservation: UnpaidReservation) -> bool:
        """Return whether the voucher belongs to the client and has a session left."""
        return (
            self.bookable > 0
            and self.organization_id == reservation.organization_id
            and self.client_id == reservation.client_id
        )


def allot(
    reservations: Iterable[UnpaidReservation], purses: Iterable[Purse]
) -> dict[int, int | None]:
    """Return the voucher of each reservation, or None; take its session from the purse.

    The earlier session is served first. The voucher of the code pays, otherwise the client's
    voucher of that class that is valid on the day and ends first. A code that was used has paid
    already: version 1 counted its session.
    """
    of_clients: defaultdict[int, list[Purse]] = defaultdict(list)
    for purse in purses:
        of_clients[purse.client_id].append(purse)
    vouchers: dict[int, int | None] = {}
    for reservation in sorted(reservations, key=lambda each: (each.starts_at, each.id)):
        able = [each for each in of_clients[reservation.client_id] if each.pays_for(reservation)]
        chosen = None if reservation.is_code_used else _first_choice(reservation, able)
        vouchers[reservation.id] = chosen.id if chosen else None
        if chosen is not None:
            chosen.bookable -= 1
    return vouchers


def _first_choice(reservation: UnpaidReservation, able: Sequence[Purse]) -> Purse | None:
    for purse in able:
        if purse.id == reservation.code_voucher_id:
            return purse
    of_class = [
        purse
        for purse in able
        if purse.therapy_class_id is not None
        and purse.therapy_class_id == reservation.therapy_class_id
        and purse.valid_until >= reservation.day
    ]
    return min(of_class, key=lambda purse: (purse.valid_until, purse.id), default=None)
