"""Use cases of closures: times at which a resource or everybody is not there, or is there."""

from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.models import HOLIDAY, MANUAL, Closure
from services.vouchers.schemas.calendars import ClosureCreate, ClosureRead, ClosureResult
from services.vouchers.service.resources import conflicts_of, require_editor
from shared.actors import Actor
from shared.changes import record
from shared.paging import Page


async def list_closures(
    session: AsyncSession,
    actor: Actor,
    page: Page,
    organization_id: int,
    *,
    resource_id: int | None,
) -> list[ClosureRead]:
    """Return a page of an organization's closures, newest first.

    Reasons are shown to managers of bookings, and to therapists those of their own closures. The
    names of holidays are shown to all.
    Raises OrganizationNotFound or Forbidden.
    """
    access.require_employee(actor, organization_id)
    rows = await queries.page_of_closures(session, page, organization_id, resource_id=resource_id)
    closures = [ClosureRead.model_validate(row) for row in rows]
    if policies.can_manage_bookings(actor, organization_id):
        return closures
    own = await queries.find_therapist(session, organization_id, actor.user_id)
    return [
        closure
        if closure.source.startswith(HOLIDAY) or (own is not None and closure.resource_id == own.id)
        else closure.model_copy(update={"reason": None})
        for closure in closures
    ]


async def create_closure(
    session: AsyncSession, actor: Actor, organization_id: int, body: ClosureCreate
) -> ClosureResult:
    """Close or open a resource or the whole organization for a time.

    Reservations that are outside of the hours now stay, and are listed. Raises
    OrganizationNotFound, Forbidden, ResourceNotFound.
    """
    if body.resource_id is None:
        access.require_booking_manager(actor, organization_id)
        resources = await queries.list_therapists_of(session, organization_id, None)
    else:
        access.require_member(actor, organization_id)
        resources = await queries.lock_resources(session, organization_id, [body.resource_id])
        await require_editor(session, actor, resources[0])
    organization = await queries.get_organization(session, organization_id)
    closure = Closure(organization_id=organization_id, source=MANUAL, **body.model_dump())
    session.add(closure)
    record(session, "CREATE", closure)
    await session.flush()
    conflicts = await conflicts_of(
        session, ZoneInfo(organization.timezone), organization_id, resources
    )
    read = ClosureRead.model_validate(closure)
    return ClosureResult(**read.model_dump(), conflicts=conflicts)


async def delete_closure(
    session: AsyncSession, actor: Actor, organization_id: int, closure_id: int
) -> None:
    """Delete a closure. Raises OrganizationNotFound, Forbidden, ClosureNotFound."""
    access.require_member(actor, organization_id)
    if not policies.is_employed(actor, organization_id):
        access.require_booking_manager(actor, organization_id)
    closure = await queries.lock_closure(session, organization_id, closure_id)
    if closure.resource_id is None:
        access.require_booking_manager(actor, organization_id)
    else:
        resource = await queries.get_resource(session, organization_id, closure.resource_id)
        await require_editor(session, actor, resource)
    await session.delete(closure)
    record(session, "DELETE", closure)
