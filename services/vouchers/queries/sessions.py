"""Queries of classes, sessions, and the time that sessions occupy."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, and_, any_, bindparam, delete, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import ClassNotFound, SessionNotFound
from services.vouchers.models import (
    ClassSession,
    ClassVoucherType,
    Occupation,
    Reservation,
    Resource,
    SessionStatus,
    TherapyClass,
)
from services.vouchers.queries.rows import require
from services.vouchers.scheduling.snapshots import OPEN_STATUSES
from shared.connections import fetch, fetch_flushed
from shared.detached import SelectedColumns
from shared.paging import Page

_OCCUPATIONS = (
    "SELECT resource_id, extract(epoch FROM lower(blocked))::bigint AS starts,"
    " extract(epoch FROM upper(blocked))::bigint AS ends"
    " FROM occupations WHERE organization_id = $1 AND resource_id = ANY($2)"
    " AND blocked && tstzrange($3, $4) AND enforced"
    " ORDER BY resource_id, lower(blocked)"
)
_SESSION = SelectedColumns(ClassSession, "s")
_BY_ID = f"SELECT {_SESSION.sql} FROM sessions s WHERE s.id = $1"  # noqa: S608
_DELETED_OCCUPATIONS = "DELETE FROM occupations WHERE session_id = ANY($1)"
_OPEN_SESSIONS = (
    f"SELECT {_SESSION.sql} FROM sessions s"  # noqa: S608 - names of the model
    " WHERE organization_id = $1 AND starts_at >= $2 AND starts_at < $3"
    f" AND status = '{SessionStatus.SCHEDULED}' AND seats_taken < capacity"
    " AND capacity BETWEEN $4 AND $5 AND ($6::bigint IS NULL OR therapist_id = $6)"
    " ORDER BY starts_at, id LIMIT $7"
)
_LOCKED = (
    select(ClassSession)
    .where(ClassSession.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
    .order_by(ClassSession.id)
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)
BusyTimes = Mapping[int, list[tuple[int, int]]]
"""The occupied intervals of resources in the order of their starts, by resource."""


@dataclass(frozen=True, slots=True)
class OpenReservation:
    """A held or booked reservation, and the resources of its session."""

    reservation_id: int
    session_id: int
    client_id: int | None
    starts_at: datetime
    ends_at: datetime
    resource_ids: Sequence[int]


async def busy_times(
    session: AsyncSession,
    organization_id: int,
    resource_ids: Collection[int],
    first: datetime,
    last: datetime,
) -> BusyTimes:
    """Return when resources are occupied in a stretch of time, in seconds since 1970.

    The time of sessions that allow others at the same time does not count.
    """
    rows = await fetch(session, _OCCUPATIONS, organization_id, list(resource_ids), first, last)
    times: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        times[row["resource_id"]].append((row["starts"], row["ends"]))
    return times


async def delete_occupations(session: AsyncSession, session_ids: Collection[int]) -> None:
    """Delete the time that some sessions occupy."""
    await fetch_flushed(session, _DELETED_OCCUPATIONS, list(session_ids))


async def delete_old_occupations(session: AsyncSession, before: datetime, limit: int) -> int:
    """Delete occupations of sessions that ended before an instant; return their number."""
    old = (
        select(Occupation.session_id)
        .join(ClassSession, ClassSession.id == Occupation.session_id)
        .where(ClassSession.ends_at < before)
        .limit(limit)
    )
    statement = delete(Occupation).where(Occupation.session_id.in_(old))
    result = await session.execute(statement.returning(Occupation.session_id))
    return len(result.all())


async def is_resource_used_after(
    session: AsyncSession, organization_id: int, resource_id: int, moment: datetime
) -> bool:
    """Return whether a scheduled session that ends after a moment needs a resource."""
    statement = select(ClassSession.id).where(
        ClassSession.organization_id == organization_id,
        literal(resource_id, BigInteger) == any_(ClassSession.resource_ids),
        ClassSession.status == SessionStatus.SCHEDULED,
        ClassSession.ends_at > moment,
    )
    return bool(await session.scalar(select(statement.exists())))


async def reservations_of_resource_after(
    session: AsyncSession, organization_id: int, resource_id: int | None, moment: datetime
) -> list[OpenReservation]:
    """Return the open reservations of sessions after a moment that need a resource, or any one.

    At most 1,000, in the order of their starts.
    """
    conditions = [
        Reservation.organization_id == organization_id,
        Reservation.status.in_(sorted(OPEN_STATUSES)),
        Reservation.ends_at > moment,
    ]
    if resource_id is not None:
        conditions.append(literal(resource_id, BigInteger) == any_(ClassSession.resource_ids))
    statement = (
        select(
            Reservation.id,
            Reservation.session_id,
            Reservation.client_id,
            Reservation.starts_at,
            Reservation.ends_at,
            ClassSession.resource_ids,
        )
        .join(ClassSession, ClassSession.id == Reservation.session_id)
        .where(and_(*conditions))
        .order_by(Reservation.starts_at, Reservation.id)
        .limit(1000)
    )
    return [OpenReservation(*row) for row in await session.execute(statement)]


async def get_class(session: AsyncSession, organization_id: int, class_id: int) -> TherapyClass:
    """Return a class of an organization; raises ClassNotFound."""
    statement = select(TherapyClass).where(
        TherapyClass.organization_id == organization_id, TherapyClass.id == class_id
    )
    return require(await session.scalar(statement), ClassNotFound)


async def names_of_classes(
    session: AsyncSession, class_ids: Collection[int | None]
) -> dict[int, str]:
    """Return the names of classes by their ids."""
    ids = [number for number in class_ids if number is not None]
    if not ids:
        return {}
    statement = select(TherapyClass.id, TherapyClass.name).where(TherapyClass.id.in_(ids))
    return dict((await session.execute(statement)).all())


async def is_enforced(session: AsyncSession, session_id: int) -> bool:
    """Return whether the database refuses other sessions at the time of a session."""
    statement = select(Occupation.enforced).where(Occupation.session_id == session_id)
    return all(await session.scalars(statement))


async def lock_class(session: AsyncSession, organization_id: int, class_id: int) -> TherapyClass:
    """Return a class of an organization, locked for a change; raises ClassNotFound."""
    statement = select(TherapyClass).where(
        TherapyClass.organization_id == organization_id, TherapyClass.id == class_id
    )
    for_change = statement.with_for_update(key_share=True)
    return require(await session.scalar(for_change), ClassNotFound)


async def page_of_classes(
    session: AsyncSession, page: Page, organization_id: int, *, is_active: bool | None
) -> list[TherapyClass]:
    """Return a page of an organization's classes, newest first."""
    statement = select(TherapyClass).where(TherapyClass.organization_id == organization_id)
    if is_active is not None:
        statement = statement.where(TherapyClass.is_active == is_active)
    rows = (await session.scalars(page.of(statement, TherapyClass.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def types_of_classes(
    session: AsyncSession, organization_id: int, class_ids: Collection[int]
) -> Mapping[int, list[int]]:
    """Return the voucher types that pay for classes, by class; none means all of the size."""
    statement = (
        select(ClassVoucherType.therapy_class_id, ClassVoucherType.voucher_type_id)
        .where(
            ClassVoucherType.organization_id == organization_id,
            ClassVoucherType.therapy_class_id.in_(class_ids),
        )
        .order_by(ClassVoucherType.therapy_class_id, ClassVoucherType.voucher_type_id)
    )
    types: dict[int, list[int]] = defaultdict(list)
    for class_id, voucher_type_id in await session.execute(statement):
        types[class_id].append(voucher_type_id)
    return types


async def delete_types_of_class(session: AsyncSession, therapy_class: TherapyClass) -> None:
    """Delete the voucher types that a class is limited to."""
    await session.execute(
        delete(ClassVoucherType).where(
            ClassVoucherType.organization_id == therapy_class.organization_id,
            ClassVoucherType.therapy_class_id == therapy_class.id,
        )
    )


async def get_session(session: AsyncSession, session_id: int) -> ClassSession:
    """Return a session, detached; raises SessionNotFound."""
    rows = await fetch_flushed(session, _BY_ID, session_id)
    return require(_SESSION.entity(rows[0]) if rows else None, SessionNotFound)


async def lock_sessions(
    session: AsyncSession, session_ids: Collection[int]
) -> dict[int, ClassSession]:
    """Return sessions by their ids, locked in the order of the ids; raises SessionNotFound."""
    ids = sorted(set(session_ids))
    sessions = {row.id: row for row in await session.scalars(_LOCKED, {"ids": ids})}
    if len(sessions) != len(ids):
        raise SessionNotFound
    return sessions


async def list_sessions(
    session: AsyncSession,
    organization_id: int,
    first: datetime,
    last: datetime,
    *,
    therapist_id: int | None = None,
    therapy_class_id: int | None = None,
    status: str | None = None,
    needs_reassignment: bool = False,
    limit: int,
) -> Sequence[ClassSession]:
    """Return an organization's sessions that begin in a stretch of time, in that order.

    With `needs_reassignment`, of the scheduled ones that need a resource which is out of use.
    """
    conditions = [
        ClassSession.organization_id == organization_id,
        ClassSession.starts_at >= first,
        ClassSession.starts_at < last,
    ]
    if therapist_id is not None:
        conditions.append(ClassSession.therapist_id == therapist_id)
    if therapy_class_id is not None:
        conditions.append(ClassSession.therapy_class_id == therapy_class_id)
    if status is not None:
        conditions.append(ClassSession.status == status)
    if needs_reassignment:
        out_of_use = select(Resource.id).where(
            Resource.organization_id == organization_id,
            Resource.id == any_(ClassSession.resource_ids),
            ~Resource.is_active,
        )
        conditions += [ClassSession.status == SessionStatus.SCHEDULED, out_of_use.exists()]
    statement = select(ClassSession).where(and_(*conditions))
    sorted_rows = statement.order_by(ClassSession.starts_at, ClassSession.id).limit(limit)
    return (await session.scalars(sorted_rows)).all()


async def list_open_sessions(
    session: AsyncSession,
    organization_id: int,
    first: datetime,
    last: datetime,
    *,
    capacities: tuple[int, int],
    therapist_id: int | None,
    limit: int,
) -> Sequence[ClassSession]:
    """Return scheduled sessions with free seats that begin in a stretch of time, in that order.

    They are detached. `capacities` are the least and the greatest number of clients of a session.
    """
    rows = await fetch_flushed(
        session, _OPEN_SESSIONS, organization_id, first, last, *capacities, therapist_id, limit
    )
    return [_SESSION.entity(row) for row in rows]
