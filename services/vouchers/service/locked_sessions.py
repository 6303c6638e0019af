"""Sessions that are locked with everybody who has a place in them, and what changes for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import (
    ClassSession,
    Reservation,
    Resource,
    SessionStatus,
    Voucher,
)
from services.vouchers.scheduling.snapshots import OPEN_STATUSES, ReservationStatus
from services.vouchers.service.booking_conflicts import flush_booking
from shared.changes import record
from shared.errors import ServiceUnavailable

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A session with its open reservations, their vouchers and new resources, all locked."""

    row: ClassSession
    reservations: Sequence[Reservation]
    vouchers: Mapping[int, Voucher]
    resources: Sequence[Resource]


@dataclass(frozen=True, slots=True)
class LockedSessions:
    """Several sessions with all that a `LockedSession` has, by their ids."""

    rows: Mapping[int, ClassSession]
    reservations: Sequence[Reservation]
    vouchers: Mapping[int, Voucher]
    resources: Sequence[Resource]


async def lock_session(
    session: AsyncSession,
    class_session: ClassSession,
    resource_ids: Sequence[int] = (),
) -> LockedSession:
    """Lock a session with everything that its move or cancellation changes. See `lock_sessions`."""
    organization_id, number = class_session.organization_id, class_session.id
    party = await lock_sessions(session, organization_id, [number], resource_ids)
    return LockedSession(party.rows[number], party.reservations, party.vouchers, party.resources)


async def lock_sessions(
    session: AsyncSession,
    organization_id: int,
    session_ids: Sequence[int],
    resource_ids: Sequence[int] = (),
) -> LockedSessions:
    """Lock sessions with everything that their move or cancellation changes, in the usual order.

    The vouchers are locked before the sessions, so they are read twice. If another voucher has
    appeared, all locks are released and the attempt is repeated. Raises ServiceUnavailable after
    three attempts, SessionNotFound and ResourceNotFound.
    """
    for _ in range(_ATTEMPTS):
        async with session.begin_nested() as attempt:
            voucher_ids = await queries.open_vouchers_of_sessions(session, session_ids)
            vouchers = await queries.lock_vouchers(session, voucher_ids)
            resources = await queries.lock_resources(session, organization_id, resource_ids)
            rows = await queries.lock_sessions(session, session_ids)
            if await queries.open_vouchers_of_sessions(session, session_ids) <= voucher_ids:
                reservations = await queries.open_reservations_of_sessions(session, session_ids)
                return LockedSessions(rows, reservations, vouchers, resources)
            await attempt.rollback()
    raise ServiceUnavailable("The session is being booked at the moment. Try again in a moment.")


def balance_of(reservation: Reservation, voucher: Voucher | None) -> dict[str, Any]:
    """Return the details of a reservation's event: its client, session and voucher's balance."""
    return {
        "client_id": reservation.client_id,
        "session_id": reservation.session_id,
        "bookable_sessions": voucher.bookable_sessions if voucher else None,
        "booked_sessions": voucher.booked_sessions if voucher else None,
    }


def release(
    session: AsyncSession,
    reservation: Reservation,
    voucher: Voucher | None,
    class_session: ClassSession,
    *,
    reason: str | None,
) -> None:
    """Cancel an open or waiting reservation without charge, and record it. All rows are locked."""
    if reservation.status in OPEN_STATUSES:
        class_session.seats_taken -= 1
        if voucher is not None:
            voucher.booked_sessions -= 1
    reservation.status = ReservationStatus.CANCELLED
    reservation.held_for, reservation.held_until = None, None
    reservation.reason = reason
    record(session, "CANCEL", reservation, **balance_of(reservation, voucher))


async def end_session(
    session: AsyncSession, class_session: ClassSession, reason: str | None
) -> None:
    """Cancel a locked session in which nobody has a place any more; its time is free again."""
    class_session.status = SessionStatus.CANCELLED
    class_session.cancelled_reason = reason
    record(session, "CANCEL", class_session)
    await flush_booking(session)
    await queries.delete_occupations(session, [class_session.id])
