"""Routes of booking settings, resources, working hours and closures."""

from fastapi import Response

from services.vouchers.endpoints.dependencies import AddressEncryptionDep, StretchDep
from services.vouchers.errors import (
    BusyCalendarNotFound,
    ClientNotFound,
    ClosureNotFound,
    OrganizationNotFound,
    ResourceInUse,
    ResourceNotFound,
    UserIsResource,
)
from services.vouchers.models import ResourceKind
from services.vouchers.schemas.calendars import (
    BookingSettingsRead,
    BookingSettingsUpdate,
    BusyCalendarRead,
    BusyCalendarUpdate,
    CalendarEntry,
    ClosureCreate,
    ClosureRead,
    ClosureResult,
    HolidaysCreate,
    HolidaysResult,
    ResourceCreate,
    ResourceRead,
    ResourceUpdate,
    WorkingHoursRead,
    WorkingHoursUpdate,
)
from services.vouchers.service import (
    booking_settings,
    busy_calendars,
    closures,
    holidays,
    resources,
)
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, StaleVersion, Unauthenticated, responses
from shared.fields import Id, QueryId
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep

organization = router(
    prefix="/api/organizations/{organization_id}",
    tags=["calendars"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)

_OF_RESOURCE = responses(ResourceNotFound)


@organization.get("/booking-settings")
async def get_booking_settings(
    organization_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> BookingSettingsRead:
    """Show how the organization takes bookings."""
    settings = await booking_settings.get_settings(session, actor, organization_id)
    set_etag(response, settings.version)
    return settings


@organization.put("/booking-settings", responses=responses(StaleVersion))
async def update_booking_settings(
    organization_id: Id,
    body: BookingSettingsUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> BookingSettingsRead:
    """Change the settings that are sent."""
    settings = await booking_settings.update_settings(
        session, actor, organization_id, body.changes(), precondition
    )
    set_etag(response, settings.version)
    return settings


@organization.get("/resources")
async def list_resources(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    kind: ResourceKind | None = None,
) -> list[ResourceRead]:
    """List the therapists, rooms and equipment of the organization, newest first."""
    return await resources.list_resources(session, actor, page, organization_id, kind=kind)


@organization.post(
    "/resources", status_code=201, responses=responses(ClientNotFound, UserIsResource)
)
async def create_resource(
    organization_id: Id,
    body: ResourceCreate,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> ResourceRead:
    """Create a room, equipment, or a therapist of an employee."""
    return _tagged(response, await resources.create_resource(session, actor, organization_id, body))


@organization.get("/resources/{resource_id}", responses=_OF_RESOURCE)
async def get_resource(
    organization_id: Id,
    resource_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> ResourceRead:
    """Show a resource."""
    return _tagged(
        response, await resources.get_resource(session, actor, organization_id, resource_id)
    )


@organization.put(
    "/resources/{resource_id}",
    responses=responses(ResourceNotFound, ResourceInUse, StaleVersion),
)
async def update_resource(
    organization_id: Id,
    resource_id: Id,
    body: ResourceUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> ResourceRead:
    """Change the fields of a resource that are sent."""
    resource = await resources.update_resource(
        session, actor, organization_id, resource_id, body.changes(), precondition
    )
    return _tagged(response, resource)


@organization.get("/resources/{resource_id}/working-hours", responses=_OF_RESOURCE)
async def get_working_hours(
    organization_id: Id, resource_id: Id, session: SessionDep, actor: ActorDep
) -> WorkingHoursRead:
    """Show the working hours of a resource, and the reservations outside of them."""
    return await resources.get_working_hours(session, actor, organization_id, resource_id)


@organization.put("/resources/{resource_id}/working-hours", responses=_OF_RESOURCE)
async def replace_working_hours(
    organization_id: Id,
    resource_id: Id,
    body: WorkingHoursUpdate,
    session: SessionDep,
    actor: ActorDep,
) -> WorkingHoursRead:
    """Replace the working hours of a resource; `conflicts` are the reservations outside of them."""
    return await resources.replace_working_hours(
        session, actor, organization_id, resource_id, body.hours
    )


@organization.get("/resources/{resource_id}/calendar", responses=_OF_RESOURCE)
async def show_calendar(
    organization_id: Id,
    resource_id: Id,
    session: SessionDep,
    actor: ActorDep,
    stretch: StretchDep,
) -> list[CalendarEntry]:
    """Show when a resource is open, closed, busy elsewhere and in sessions."""
    return await resources.show_calendar(session, actor, organization_id, resource_id, stretch)


@organization.get(
    "/resources/{resource_id}/busy-calendar",
    responses=responses(ResourceNotFound, BusyCalendarNotFound),
)
async def get_busy_calendar(
    organization_id: Id, resource_id: Id, session: SessionDep, actor: ActorDep
) -> BusyCalendarRead:
    """Show the state of a resource's calendar elsewhere, and the reservations outside now."""
    return await busy_calendars.get_busy_calendar(session, actor, organization_id, resource_id)


@organization.put("/resources/{resource_id}/busy-calendar", responses=_OF_RESOURCE)
async def set_busy_calendar(
    organization_id: Id,
    resource_id: Id,
    body: BusyCalendarUpdate,
    session: SessionDep,
    actor: ActorDep,
    encryption: AddressEncryptionDep,
) -> BusyCalendarRead:
    """Enter the address of a calendar whose events make the resource busy, instead of another.

    It is read within a minute, and every 15 minutes from then on.
    """
    return await busy_calendars.set_busy_calendar(
        session, actor, organization_id, resource_id, body.address, encryption
    )


@organization.delete(
    "/resources/{resource_id}/busy-calendar",
    responses=responses(ResourceNotFound, BusyCalendarNotFound),
)
async def delete_busy_calendar(
    organization_id: Id, resource_id: Id, session: SessionDep, actor: ActorDep
) -> dict[str, str]:
    """Remove a resource's calendar elsewhere, with its busy times."""
    await busy_calendars.delete_busy_calendar(session, actor, organization_id, resource_id)
    return {"message": "Calendar removed successfully"}


@organization.get("/closures")
async def list_closures(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    resource_id: QueryId | None = None,
) -> list[ClosureRead]:
    """List closures, newest first. Their reasons are shown to those who manage the calendar."""
    return await closures.list_closures(
        session, actor, page, organization_id, resource_id=resource_id
    )


@organization.post("/closures", status_code=201, responses=_OF_RESOURCE)
async def create_closure(
    organization_id: Id, body: ClosureCreate, session: SessionDep, actor: ActorDep
) -> ClosureResult:
    """Close or open a resource, or everybody; `conflicts` are the reservations outside now."""
    return await closures.create_closure(session, actor, organization_id, body)


@organization.post("/closures/holidays")
async def close_on_holidays(
    organization_id: Id, body: HolidaysCreate, session: SessionDep, actor: ActorDep
) -> HolidaysResult:
    """Close everybody on the public holidays of a year. It can be repeated: no day is closed twice.

    `closures` are all of these holidays, and `conflicts` the reservations outside now.
    """
    return await holidays.close_on_holidays(session, actor, organization_id, body)


@organization.delete("/closures/{closure_id}", responses=responses(ClosureNotFound))
async def delete_closure(
    organization_id: Id, closure_id: Id, session: SessionDep, actor: ActorDep
) -> dict[str, str]:
    """Delete a closure."""
    await closures.delete_closure(session, actor, organization_id, closure_id)
    return {"message": "Closure deleted successfully"}


def _tagged(response: Response, resource: ResourceRead) -> ResourceRead:
    set_etag(response, resource.version)
    return resource
