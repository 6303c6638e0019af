"""Queries of reservations."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, and_, any_, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import ReservationNotFound
from services.vouchers.models import (
    ClassSession,
    ClientCopy,
    Reservation,
    TherapyClass,
    Voucher,
)
from services.vouchers.queries.rows import require
from services.vouchers.scheduling.snapshots import (
    OPEN_STATUSES,
    PERIOD_STATUSES,
    RESERVED_STATUSES,
    ReservationStatus,
)
from shared.connections import fetch_flushed
from shared.detached import SelectedColumns
from shared.paging import Page

SEATED_STATUSES = (*sorted(PERIOD_STATUSES), ReservationStatus.NO_SHOW)
"""The states of a reservation that has a seat in its session."""

ReservationPlace = tuple[Reservation, ClassSession, str | None]
"""A reservation with its session and the name of its class."""

_RESERVATION = SelectedColumns(Reservation, "r")
_BY_ID = f"SELECT {_RESERVATION.sql} FROM reservations r WHERE r.id = $1"  # noqa: S608
_REREAD = (
    select(Reservation)
    .where(Reservation.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
    .order_by(Reservation.id)
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)
_PLACE_STATUSES = (*sorted(RESERVED_STATUSES), ReservationStatus.NO_SHOW)


async def get_reservation(session: AsyncSession, reservation_id: int) -> Reservation:
    """Return a reservation, detached; raises ReservationNotFound."""
    rows = await fetch_flushed(session, _BY_ID, reservation_id)
    return require(_RESERVATION.entity(rows[0]) if rows else None, ReservationNotFound)


async def reread_reservations(
    session: AsyncSession, reservation_ids: Collection[int]
) -> Sequence[Reservation]:
    """Return reservations as they are now, in the order of their ids.

    Their vouchers are locked, and so are they, for a voucher of version 1 may be missing.
    """
    return (await session.scalars(_REREAD, {"ids": list(reservation_ids)})).all()


async def reservations_that_count(
    session: AsyncSession,
    voucher: Voucher,
    moment: datetime,
    *,
    without_id: int | None,
) -> Sequence[Reservation]:
    """Return what the rules of a booking read: the active reservations of a voucher, and those of
    its client in the organization that end after a moment. `without_id` is left out."""
    conditions = [
        Reservation.organization_id == voucher.organization_id,
        Reservation.client_id == voucher.client_id,
        Reservation.status.in_(sorted(RESERVED_STATUSES)),
        or_(Reservation.voucher_id == voucher.id, Reservation.ends_at > moment),
    ]
    if without_id is not None:
        conditions.append(Reservation.id != without_id)
    return (await session.scalars(select(Reservation).where(and_(*conditions)))).all()


async def places_of_voucher(
    session: AsyncSession,
    voucher: Voucher,
    *,
    statuses: Collection[ReservationStatus] = OPEN_STATUSES,
    first: datetime | None = None,
    last: datetime | None = None,
    limit: int | None = None,
) -> list[ReservationPlace]:
    """Return a voucher's reservations of sessions that begin between two moments, latest first.

    `first` is inclusive and `last` exclusive; by default they are the held and booked ones.
    """
    statement = _with_session().where(
        Reservation.organization_id == voucher.organization_id,
        Reservation.voucher_id == voucher.id,
        Reservation.status.in_(sorted(statuses)),
    )
    if first is not None:
        statement = statement.where(Reservation.starts_at >= first)
    if last is not None:
        statement = statement.where(Reservation.starts_at < last)
    latest_first = statement.order_by(Reservation.starts_at.desc(), Reservation.id.desc())
    current = latest_first.limit(limit).execution_options(populate_existing=True)
    return [(row[0], row[1], row[2]) for row in await session.execute(current)]


async def open_vouchers_of_sessions(
    session: AsyncSession, session_ids: Collection[int]
) -> set[int]:
    """Return the ids of the vouchers of the open and waiting reservations of sessions."""
    statement = select(Reservation.voucher_id).where(
        Reservation.session_id.in_(session_ids),
        Reservation.status.in_(sorted(OPEN_STATUSES | {ReservationStatus.WAITLISTED})),
        Reservation.voucher_id.is_not(None),
    )
    return {number for number in await session.scalars(statement) if number is not None}


async def open_reservations_of_sessions(
    session: AsyncSession, session_ids: Collection[int]
) -> Sequence[Reservation]:
    """Return the open and waiting reservations of sessions, locked, in the order of their ids."""
    statement = (
        select(Reservation)
        .where(
            Reservation.session_id.in_(session_ids),
            Reservation.status.in_(sorted(OPEN_STATUSES | {ReservationStatus.WAITLISTED})),
        )
        .order_by(Reservation.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()


async def periods_taken(
    session: AsyncSession, organization_id: int, voucher_ids: Collection[int]
) -> set[tuple[int, int, int]]:
    """Return the periods of vouchers that are taken: voucher, period, reservation."""
    statement = select(Reservation.voucher_id, Reservation.period, Reservation.id).where(
        Reservation.organization_id == organization_id,
        Reservation.voucher_id.in_(voucher_ids),
        Reservation.period.is_not(None),
        Reservation.status.in_(sorted(PERIOD_STATUSES)),
    )
    rows = await session.execute(statement)
    return {(voucher or 0, period or 0, number) for voucher, period, number in rows}


async def lock_vouchers(session: AsyncSession, voucher_ids: Collection[int]) -> dict[int, Voucher]:
    """Return vouchers by their ids, locked in the order of the ids."""
    if not voucher_ids:
        return {}
    statement = (
        select(Voucher)
        .where(Voucher.id.in_(sorted(voucher_ids)))
        .order_by(Voucher.id)
        .with_for_update(of=Voucher)
        .execution_options(populate_existing=True)
    )
    return {voucher.id: voucher for voucher in await session.scalars(statement)}


def _with_session() -> Any:
    return (
        select(Reservation, ClassSession, TherapyClass.name)
        .join(ClassSession, ClassSession.id == Reservation.session_id)
        .outerjoin(TherapyClass, TherapyClass.id == ClassSession.therapy_class_id)
    )


async def page_of_own_reservations(
    session: AsyncSession,
    page: Page,
    client_id: int,
    *,
    first: datetime | None,
    last: datetime | None,
    status: str | None,
) -> list[ReservationPlace]:
    """Return a page of the reservations of a client and of the client's dependants, newest first,
    with their sessions and classes."""
    is_own = or_(Reservation.client_id == client_id, Reservation.guardian_id == client_id)
    statement = _with_session().where(is_own)
    return await _page(session, page, statement, first=first, last=last, status=status)


async def page_of_organization_reservations(
    session: AsyncSession,
    page: Page,
    organization_id: int,
    *,
    first: datetime | None,
    last: datetime | None,
    status: str | None,
    client_id: int | None = None,
    therapist_id: int | None = None,
    unmarked_before: datetime | None = None,
) -> list[ReservationPlace]:
    """Return a page of an organization's reservations, newest first.

    With `unmarked_before`, of those that are still booked and ended before that moment.
    """
    statement = _with_session().where(Reservation.organization_id == organization_id)
    if client_id is not None:
        statement = statement.where(Reservation.client_id == client_id)
    if therapist_id is not None:
        statement = statement.where(ClassSession.therapist_id == therapist_id)
    if unmarked_before is not None:
        statement = statement.where(
            Reservation.status == ReservationStatus.BOOKED, Reservation.ends_at < unmarked_before
        )
    return await _page(session, page, statement, first=first, last=last, status=status)


async def page_of_voucher_reservations(
    session: AsyncSession, page: Page, voucher: Voucher
) -> list[ReservationPlace]:
    """Return a page of a voucher's reservations, newest first."""
    statement = _with_session().where(
        Reservation.organization_id == voucher.organization_id,
        Reservation.voucher_id == voucher.id,
    )
    return await _page(session, page, statement, first=None, last=None, status=None)


async def _page(
    session: AsyncSession,
    page: Page,
    statement: Any,
    *,
    first: datetime | None,
    last: datetime | None,
    status: str | None,
) -> list[ReservationPlace]:
    if first is not None:
        statement = statement.where(Reservation.starts_at >= first)
    if last is not None:
        statement = statement.where(Reservation.starts_at < last)
    if status is not None:
        statement = statement.where(Reservation.status == status)
    rows = (await session.execute(page.of(statement, Reservation.id))).all()
    return [(row[0], row[1], row[2]) for row in page.cut(rows, lambda row: (row[0].id,))]


async def find_class_name(session: AsyncSession, class_id: int | None) -> str | None:
    """Return the name of a class, or None."""
    if class_id is None:
        return None
    return await session.scalar(select(TherapyClass.name).where(TherapyClass.id == class_id))


async def participants_of(
    session: AsyncSession, session_id: int
) -> list[tuple[Reservation, str | None]]:
    """Return the reservations with a place in a session or its waiting list, and their clients."""
    statement = (
        select(Reservation, ClientCopy.name)
        .outerjoin(ClientCopy, ClientCopy.id == Reservation.client_id)
        .where(Reservation.session_id == session_id, Reservation.status.in_(_PLACE_STATUSES))
        .order_by(Reservation.id)
    )
    return list(await session.execute(statement))
