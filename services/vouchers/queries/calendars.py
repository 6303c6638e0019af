"""Queries of booking settings, resources, working hours and closures."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import ClosureNotFound, ResourceNotFound
from services.vouchers.models import (
    BookingSettings,
    ClientCopy,
    Closure,
    Resource,
    ResourceKind,
    ResourceVoucherType,
    VoucherType,
    WorkingHours,
)
from services.vouchers.queries.rows import require
from shared.connections import fetch_flushed
from shared.detached import SelectedColumns
from shared.paging import Page

_SETTINGS = SelectedColumns(BookingSettings, "b")
_BOOKING_SETTINGS = (
    f"SELECT {_SETTINGS.sql} FROM booking_settings b"  # noqa: S608 - names of the model
    " WHERE b.organization_id = $1"
)
_RESOURCE = SelectedColumns(Resource, "r")
_LOCK = " FOR NO KEY UPDATE OF r"
_THERAPIST = (
    f"SELECT {_RESOURCE.sql} FROM resources r"  # noqa: S608 - names of the model
    " WHERE r.organization_id = $1 AND r.user_id = $2"
)
_TYPES = (
    "SELECT FROM resource_voucher_types t"
    " WHERE t.organization_id = r.organization_id AND t.resource_id = r.id"
)
_THERAPISTS = (
    f"SELECT {_RESOURCE.sql} FROM resources r"  # noqa: S608 - names of the model
    f" WHERE r.organization_id = $1 AND r.kind = '{ResourceKind.THERAPIST}' AND r.is_active"
    f" AND ($2::bigint IS NULL OR NOT EXISTS ({_TYPES})"
    f" OR EXISTS ({_TYPES} AND t.voucher_type_id = $2)) ORDER BY r.id"
)
_TYPES_OF_RESOURCES = (
    "SELECT resource_id, voucher_type_id FROM resource_voucher_types"
    " WHERE organization_id = $1 AND resource_id = ANY($2) ORDER BY resource_id, voucher_type_id"
)


async def find_booking_settings(
    session: AsyncSession, organization_id: int
) -> BookingSettings | None:
    """Return an organization's booking settings, detached, or None if they were never changed."""
    rows = await fetch_flushed(session, _BOOKING_SETTINGS, organization_id)
    return _SETTINGS.entity(rows[0]) if rows else None


async def lock_booking_settings(
    session: AsyncSession, organization_id: int
) -> BookingSettings | None:
    """Return an organization's booking settings, locked, or None.

    No other transaction can change them, also if there are none yet.
    """
    key = func.hashtextextended(f"booking settings of {organization_id}", 3)
    await session.execute(select(func.pg_advisory_xact_lock(key)))
    statement = select(BookingSettings).where(BookingSettings.organization_id == organization_id)
    return (await session.scalars(statement.with_for_update())).one_or_none()


async def get_resource(session: AsyncSession, organization_id: int, resource_id: int) -> Resource:
    """Return a resource of an organization; raises ResourceNotFound."""
    statement = select(Resource).where(
        Resource.organization_id == organization_id, Resource.id == resource_id
    )
    return require(await session.scalar(statement), ResourceNotFound)


async def find_resources(
    session: AsyncSession, organization_id: int, resource_ids: Collection[int]
) -> Sequence[Resource]:
    """Return those of some resources that the organization has."""
    statement = select(Resource).where(
        Resource.organization_id == organization_id, Resource.id.in_(resource_ids)
    )
    return (await session.scalars(statement)).all()


async def lock_resources(
    session: AsyncSession, organization_id: int, resource_ids: Collection[int]
) -> list[Resource]:
    """Return resources of an organization in the order of their ids, locked in that order.

    Their time is decided under these locks. Foreign keys to the rows do not wait for them. Raises
    ResourceNotFound if one is missing.
    """
    ids = sorted(set(resource_ids))
    if not ids:
        return []
    statement = (
        select(Resource)
        .where(Resource.organization_id == organization_id, Resource.id.in_(ids))
        .order_by(Resource.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    resources = list(await session.scalars(statement))
    if len(resources) != len(ids):
        raise ResourceNotFound
    return resources


async def find_therapist(
    session: AsyncSession, organization_id: int, user_id: int, *, locked: bool = False
) -> Resource | None:
    """Return the resource of a user as a therapist of an organization, detached, or None.

    With `locked` its time is decided under its lock, as by `lock_resources`.
    """
    text = f"{_THERAPIST}{_LOCK if locked else ''}"
    rows = await fetch_flushed(session, text, organization_id, user_id)
    return _RESOURCE.entity(rows[0]) if rows else None


async def list_therapists_of(
    session: AsyncSession,
    organization_id: int,
    voucher_type_id: int | None,
    *,
    locked: bool = False,
) -> list[Resource]:
    """Return the active therapists of an organization, of a voucher type if one is named.

    They are detached and in the order of their ids. With `locked` their time is decided under their
    locks, as by `lock_resources`.
    """
    text = f"{_THERAPISTS}{_LOCK if locked else ''}"
    rows = await fetch_flushed(session, text, organization_id, voucher_type_id)
    return [_RESOURCE.entity(row) for row in rows]


async def resources_of_user(session: AsyncSession, user_id: int) -> Sequence[Resource]:
    """Return the resources of a user as a therapist, of every organization."""
    return (await session.scalars(select(Resource).where(Resource.user_id == user_id))).all()


async def list_therapists_without_resource(session: AsyncSession, limit: int) -> Sequence[int]:
    """Return the ids of active therapists who have no resource in their organization."""
    has_resource = select(Resource.id).where(
        Resource.organization_id == ClientCopy.organization_id, Resource.user_id == ClientCopy.id
    )
    statement = select(ClientCopy.id).where(
        ClientCopy.role == "therapist",
        ClientCopy.is_active,
        ClientCopy.organization_id.is_not(None),
        ~has_resource.exists(),
    )
    return (await session.scalars(statement.order_by(ClientCopy.id).limit(limit))).all()


async def page_of_resources(
    session: AsyncSession, page: Page, organization_id: int, *, kind: str | None
) -> list[Resource]:
    """Return a page of an organization's resources, newest first."""
    statement = select(Resource).where(Resource.organization_id == organization_id)
    if kind is not None:
        statement = statement.where(Resource.kind == kind)
    rows = (await session.scalars(page.of(statement, Resource.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def types_of_resources(
    session: AsyncSession, organization_id: int, resource_ids: Collection[int]
) -> Mapping[int, list[int]]:
    """Return the voucher types that resources are limited to, by resource; none means all."""
    rows = await fetch_flushed(session, _TYPES_OF_RESOURCES, organization_id, list(resource_ids))
    types: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        types[row["resource_id"]].append(row["voucher_type_id"])
    return types


async def count_voucher_types(
    session: AsyncSession, organization_id: int, voucher_type_ids: Collection[int]
) -> int:
    """Return how many of these voucher types the organization has."""
    statement = select(VoucherType.id).where(
        VoucherType.organization_id == organization_id, VoucherType.id.in_(voucher_type_ids)
    )
    return len((await session.scalars(statement)).all())


async def delete_types_of_resource(session: AsyncSession, resource: Resource) -> None:
    """Delete the voucher types that a resource is limited to."""
    await session.execute(
        delete(ResourceVoucherType).where(
            ResourceVoucherType.organization_id == resource.organization_id,
            ResourceVoucherType.resource_id == resource.id,
        )
    )


async def delete_hours(session: AsyncSession, resource: Resource) -> None:
    """Delete the working hours of a resource."""
    await session.execute(
        delete(WorkingHours).where(
            WorkingHours.organization_id == resource.organization_id,
            WorkingHours.resource_id == resource.id,
        )
    )


async def hours_of(
    session: AsyncSession, organization_id: int, resource_ids: Collection[int]
) -> Mapping[int, list[WorkingHours]]:
    """Return the working hours of resources, by resource."""
    statement = (
        select(WorkingHours)
        .where(
            WorkingHours.organization_id == organization_id,
            WorkingHours.resource_id.in_(resource_ids),
        )
        .order_by(WorkingHours.weekday, WorkingHours.start_minute, WorkingHours.id)
    )
    hours: dict[int, list[WorkingHours]] = defaultdict(list)
    for entry in await session.scalars(statement):
        hours[entry.resource_id].append(entry)
    return hours


async def general_closures_between(
    session: AsyncSession, organization_id: int, first: datetime, last: datetime
) -> Sequence[Closure]:
    """Return the closures for everybody that overlap a stretch of local time."""
    statement = select(Closure).where(
        Closure.organization_id == organization_id,
        Closure.resource_id.is_(None),
        Closure.starts_local < last,
        Closure.ends_local > first,
    )
    return (await session.scalars(statement)).all()


async def closures_of_source(
    session: AsyncSession, organization_id: int, source: str, first: datetime, last: datetime
) -> Sequence[Closure]:
    """Return the closures for everybody from a source that begin in a stretch of local time."""
    statement = select(Closure).where(
        Closure.organization_id == organization_id,
        Closure.resource_id.is_(None),
        Closure.source == source,
        Closure.starts_local >= first,
        Closure.starts_local < last,
    )
    return (await session.scalars(statement.order_by(Closure.starts_local))).all()


async def page_of_closures(
    session: AsyncSession, page: Page, organization_id: int, *, resource_id: int | None
) -> list[Closure]:
    """Return a page of an organization's closures, newest first; of one resource if it is named."""
    statement = select(Closure).where(Closure.organization_id == organization_id)
    if resource_id is not None:
        statement = statement.where(Closure.resource_id == resource_id)
    rows = (await session.scalars(page.of(statement, Closure.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def lock_closure(session: AsyncSession, organization_id: int, closure_id: int) -> Closure:
    """Return a closure of an organization, locked; raises ClosureNotFound."""
    statement = select(Closure).where(
        Closure.organization_id == organization_id, Closure.id == closure_id
    )
    return require(await session.scalar(statement.with_for_update()), ClosureNotFound)
