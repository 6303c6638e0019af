"""Use cases of resources: therapists, rooms and equipment, with their working hours."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import ClientNotFound, ResourceInUse, UserIsResource
from services.vouchers.models import Resource, ResourceVoucherType, WorkingHours
from services.vouchers.schemas.calendars import (
    CalendarEntry,
    ConflictRead,
    HoursEntry,
    HoursRead,
    ResourceCreate,
    ResourceRead,
    WorkingHoursRead,
    clock_time_of,
)
from services.vouchers.service import availability
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.booking_settings import settings_of
from services.vouchers.service.type_limits import read_limited, require_voucher_types
from shared.actors import Actor, permission_missing
from shared.changes import record
from shared.db import now
from shared.errors import Invalid
from shared.paging import Page
from shared.preconditions import Precondition


async def list_resources(
    session: AsyncSession, actor: Actor, page: Page, organization_id: int, *, kind: str | None
) -> list[ResourceRead]:
    """Return a page of an organization's resources, newest first. Raises OrganizationNotFound."""
    access.require_member(actor, organization_id)
    rows = await queries.page_of_resources(session, page, organization_id, kind=kind)
    types = await queries.types_of_resources(session, organization_id, [row.id for row in rows])
    return [read_limited(ResourceRead, row, types) for row in rows]


async def get_resource(
    session: AsyncSession, actor: Actor, organization_id: int, resource_id: int
) -> ResourceRead:
    """Return a resource. Raises OrganizationNotFound or ResourceNotFound."""
    access.require_member(actor, organization_id)
    resource = await queries.get_resource(session, organization_id, resource_id)
    return await _read_one(session, resource)


async def create_resource(
    session: AsyncSession, actor: Actor, organization_id: int, body: ResourceCreate
) -> ResourceRead:
    """Create a room, equipment, or a therapist of an employee.

    Raises OrganizationNotFound, Forbidden, ClientNotFound, UserIsResource, and
    Invalid for voucher types of another organization.
    """
    access.require_booking_manager(actor, organization_id)
    await queries.get_organization(session, organization_id)
    if body.user_id is not None:
        user = await queries.get_client(session, body.user_id)
        if user.organization_id != organization_id or user.role not in policies.EMPLOYED:
            raise ClientNotFound("There is no such employee in this organization. Check the id.")
        if await queries.find_therapist(session, organization_id, body.user_id) is not None:
            raise UserIsResource
    values = body.model_dump(exclude={"voucher_type_ids"})
    resource = Resource(organization_id=organization_id, is_active=True, **values)
    session.add(resource)
    # Another request may have created the same therapist since the question above.
    await flush_booking(session)
    type_ids = await _limit_to_types(session, resource, body.voucher_type_ids)
    record(session, "CREATE", resource, voucher_type_ids=type_ids)
    await session.flush()
    return read_limited(ResourceRead, resource, {resource.id: type_ids})


async def update_resource(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    resource_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> ResourceRead:
    """Change a resource.

    Raises OrganizationNotFound, Forbidden, ResourceNotFound, StaleVersion, ResourceInUse for a room
    that is taken out of use while sessions need it, and Invalid.
    """
    access.require_booking_manager(actor, organization_id)
    [resource] = await queries.lock_resources(session, organization_id, [resource_id])
    precondition.check(resource.version)
    if "name" in changes and resource.user_id is not None:
        raise Invalid("name", "is refused for a therapist, whose name is that of the user")
    details = {}
    if (type_ids := changes.pop("voucher_type_ids", None)) is not None:
        await queries.delete_types_of_resource(session, resource)
        details["voucher_type_ids"] = await _limit_to_types(session, resource, type_ids)
    action = await _apply(session, resource, changes)
    if details or session.is_modified(resource):
        # The types are a part of the resource, which therefore gets a new version.
        resource.updated_at = now()
        record(session, action, resource, **details)
        await session.flush()
    return await _read_one(session, resource)


async def _apply(session: AsyncSession, resource: Resource, changes: dict[str, Any]) -> str:
    """Change the columns of a locked resource, and return the action that it is recorded as."""
    is_active = changes.get("is_active", resource.is_active)
    action = "UPDATE"
    if is_active != resource.is_active:
        action = "ACTIVATE" if is_active else "DEACTIVATE"
        # The sessions of a therapist who leaves stay, and are listed for another therapist.
        if action == "DEACTIVATE" and resource.user_id is None:
            organization_id = resource.organization_id
            if await queries.is_resource_used_after(session, organization_id, resource.id, now()):
                raise ResourceInUse
    for name, value in changes.items():
        setattr(resource, name, value)
    return action


async def _limit_to_types(
    session: AsyncSession, resource: Resource, voucher_type_ids: Sequence[int]
) -> list[int]:
    """Limit a resource to voucher types of its organization. Raises Invalid for others."""
    type_ids = await require_voucher_types(session, resource.organization_id, voucher_type_ids)
    session.add_all(
        ResourceVoucherType(
            organization_id=resource.organization_id,
            resource_id=resource.id,
            voucher_type_id=type_id,
        )
        for type_id in type_ids
    )
    return type_ids


async def get_working_hours(
    session: AsyncSession, actor: Actor, organization_id: int, resource_id: int
) -> WorkingHoursRead:
    """Return the working hours of a resource, and the reservations outside of them.

    Raises OrganizationNotFound, Forbidden, ResourceNotFound.
    """
    access.require_employee(actor, organization_id)
    resource = await queries.get_resource(session, organization_id, resource_id)
    return await _hours_read(session, resource)


async def replace_working_hours(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    resource_id: int,
    hours: Sequence[HoursEntry],
) -> WorkingHoursRead:
    """Replace the working hours of a resource. Reservations outside of them stay and are listed.

    Raises OrganizationNotFound, Forbidden, ResourceNotFound.
    """
    access.require_member(actor, organization_id)
    [resource] = await queries.lock_resources(session, organization_id, [resource_id])
    await require_editor(session, actor, resource)
    await queries.delete_hours(session, resource)
    entries = [entry.columns() for entry in hours]
    session.add_all(
        WorkingHours(organization_id=organization_id, resource_id=resource_id, **entry)
        for entry in entries
    )
    resource.updated_at = now()
    record(session, "UPDATE", resource, working_hours=[_plain(entry) for entry in entries])
    await session.flush()
    return await _hours_read(session, resource)


async def require_editor(session: AsyncSession, actor: Actor, resource: Resource) -> None:
    """Raise Forbidden unless the actor may edit the calendar of a resource."""
    settings = await settings_of(session, resource.organization_id)
    if not policies.can_edit_calendar(
        actor, resource, by_therapists=settings.therapists_edit_hours
    ):
        raise permission_missing(policies.MANAGE_BOOKINGS)


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return hours as JSON has them, for an event."""
    days = {name: entry[name] and entry[name].isoformat() for name in ("from_date", "until_date")}
    return {**entry, **days}


async def _hours_read(session: AsyncSession, resource: Resource) -> WorkingHoursRead:
    organization = await queries.get_organization(session, resource.organization_id)
    zone = ZoneInfo(organization.timezone)
    hours = await queries.hours_of(session, resource.organization_id, [resource.id])
    return WorkingHoursRead(
        resource_id=resource.id,
        timezone=availability.zone_of(resource, zone).key,
        hours=[
            HoursRead(
                weekday=entry.weekday,
                start_time=clock_time_of(entry.start_minute),
                end_time=clock_time_of(entry.end_minute),
                from_date=entry.from_date,
                until_date=entry.until_date,
            )
            for entry in hours.get(resource.id, ())
        ],
        conflicts=await conflicts_of(session, zone, resource.organization_id, [resource]),
    )


async def conflicts_of(
    session: AsyncSession, zone: ZoneInfo, organization_id: int, resources: Sequence[Resource]
) -> list[ConflictRead]:
    """Return the open reservations of sessions outside of the hours of resources."""
    only = resources[0].id if len(resources) == 1 else None
    rows = await queries.reservations_of_resource_after(session, organization_id, only, now())
    if not rows:
        return []
    stretch = availability.Stretch.around(zone, rows[0].starts_at, rows[-1].ends_at)
    calendars = await availability.calendars_of(session, organization_id, resources, stretch)
    return [
        ConflictRead(
            reservation_id=row.reservation_id,
            session_id=row.session_id,
            client_id=row.client_id,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
        )
        for row in availability.closed_reservations(rows, calendars)
    ]


async def show_calendar(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    resource_id: int,
    stretch: tuple[datetime, datetime],
) -> list[CalendarEntry]:
    """Return when a resource is open and in sessions, in the order of the starts.

    Raises OrganizationNotFound, Forbidden, ResourceNotFound.
    """
    access.require_employee(actor, organization_id)
    resource = await queries.get_resource(session, organization_id, resource_id)
    organization = await queries.get_organization(session, organization_id)
    zone = ZoneInfo(organization.timezone)
    days = availability.Stretch.around(zone, *stretch)
    calendars = await availability.calendars_of(session, organization_id, [resource], days)
    calendar = calendars[resource.id]
    first, last = (int(moment.timestamp()) for moment in stretch)
    open_times = [("open", *times) for times in availability.opening_times(calendar, days)]
    closed_times = [("closed", *times) for times in calendar.closed]
    elsewhere = [("busy", *times) for times in calendar.busy_elsewhere]
    busy = [("session", *times) for times in calendar.busy]
    every = (*open_times, *closed_times, *elsewhere, *busy)
    entries = [entry for entry in every if entry[1] < last and entry[2] > first]
    return [
        CalendarEntry(
            kind=kind,
            starts_at=datetime.fromtimestamp(start, UTC),
            ends_at=datetime.fromtimestamp(end, UTC),
        )
        for kind, start, end in sorted(entries, key=lambda entry: entry[1:])
    ]


async def _read_one(session: AsyncSession, resource: Resource) -> ResourceRead:
    types = await queries.types_of_resources(session, resource.organization_id, [resource.id])
    return read_limited(ResourceRead, resource, types)
