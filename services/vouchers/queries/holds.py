"""Queries of held reservations and of waiting lists."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import ClassSession, HeldFor, Reservation, SessionStatus, Voucher
from services.vouchers.scheduling.snapshots import OPEN_STATUSES, ReservationStatus

_LOCK_HOLDS = func.pg_advisory_xact_lock
_HOLDS = 2
"""The second part of the keys of these locks; other locks of the service have another one."""


async def count_checkout_holds(session: AsyncSession, voucher: Voucher, moment: datetime) -> int:
    """Return how many times a voucher's client holds in the organization, with any voucher.

    Until the transaction ends no other one counts them.
    """
    key = f"holds/{voucher.organization_id}/{voucher.client_id}"
    await session.execute(select(_LOCK_HOLDS(func.hashtextextended(key, _HOLDS))))
    statement = select(func.count()).where(
        Reservation.organization_id == voucher.organization_id,
        Reservation.client_id == voucher.client_id,
        Reservation.status == ReservationStatus.HELD,
        Reservation.held_for == HeldFor.CHECKOUT,
        Reservation.held_until > moment,
    )
    return await session.scalar(statement) or 0


async def list_lapsed_ids(
    session: AsyncSession, moment: datetime, after: int, limit: int
) -> Sequence[int]:
    """Return the ids above `after` of reservations that nobody can confirm or give any more.

    They are held until a time that is over, or wait for a seat in a session that has begun.
    """
    held_ids = select(Reservation.id).where(
        Reservation.status == ReservationStatus.HELD, Reservation.held_until <= moment
    )
    waiting_ids = select(Reservation.id).where(
        Reservation.status == ReservationStatus.WAITLISTED, Reservation.starts_at <= moment
    )
    lapsed_ids = held_ids.union_all(waiting_ids).subquery()
    statement = (
        select(lapsed_ids.c.id)
        .where(lapsed_ids.c.id > after)
        .order_by(lapsed_ids.c.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def lock_open_reservations_of(
    session: AsyncSession, voucher: Voucher
) -> Sequence[Reservation]:
    """Return the open and waiting reservations of a locked voucher, the latest one first."""
    statement = (
        select(Reservation)
        .where(
            Reservation.organization_id == voucher.organization_id,
            Reservation.voucher_id == voucher.id,
            Reservation.status.in_(sorted(OPEN_STATUSES | {ReservationStatus.WAITLISTED})),
        )
        .order_by(Reservation.starts_at.desc(), Reservation.id.desc())
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()


async def find_first_reservation(session: AsyncSession, voucher_id: int) -> Reservation | None:
    """Return the first reservation of a voucher, or None."""
    statement = (
        select(Reservation)
        .where(Reservation.voucher_id == voucher_id)
        .order_by(Reservation.id)
        .limit(1)
    )
    return await session.scalar(statement)


async def list_waiting(session: AsyncSession, session_id: int) -> Sequence[tuple[int, int]]:
    """Return who waits for a seat in a session, first come first: reservation and voucher."""
    statement = (
        select(Reservation.id, Reservation.voucher_id)
        .where(
            Reservation.session_id == session_id,
            Reservation.status == ReservationStatus.WAITLISTED,
            Reservation.voucher_id.is_not(None),
        )
        .order_by(Reservation.id)
    )
    rows = await session.execute(statement)
    return [(number, voucher_id) for number, voucher_id in rows if voucher_id is not None]


async def waiting_position(session: AsyncSession, reservation: Reservation) -> int:
    """Return the place of a waiting reservation in its line; the first one is 1."""
    statement = select(func.count()).where(
        Reservation.session_id == reservation.session_id,
        Reservation.status == ReservationStatus.WAITLISTED,
        Reservation.id <= reservation.id,
    )
    return await session.scalar(statement) or 0


async def list_sessions_to_fill(
    session: AsyncSession, moment: datetime, after: int, limit: int
) -> Sequence[int]:
    """Return the ids above `after` of later sessions with a free seat for which clients wait."""
    waiting_for = select(Reservation.session_id).where(
        Reservation.status == ReservationStatus.WAITLISTED, Reservation.starts_at > moment
    )
    statement = (
        select(ClassSession.id)
        .where(
            ClassSession.id.in_(waiting_for),
            ClassSession.id > after,
            ClassSession.status == SessionStatus.SCHEDULED,
            ClassSession.seats_taken < ClassSession.capacity,
        )
        .order_by(ClassSession.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def lock_idle_voucher(session: AsyncSession, voucher_id: int) -> Voucher | None:
    """Return a voucher, locked, or None if another transaction has locked it: nothing waits."""
    statement = (
        select(Voucher)
        .where(Voucher.id == voucher_id)
        .with_for_update(of=Voucher, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    return await session.scalar(statement)
