"""The events that this service receives: changes of organizations."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.service import organizations
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fields import KnownTimeZone, ServiceData
from shared.shapes import EventReading, EventReadings


class OrganizationChange(ServiceData):
    """The fields that we read of an organization's event. A field that did not change is absent."""

    slug: str | None = None
    is_active: bool | None = None
    name: str | None = None
    logo_url: str | None = None
    email: str | None = None
    timezone: KnownTimeZone | None = None
    locale: str | None = None
    owner_id: int | None = None
    """The user for whom the organization was created, if identity requested it."""


async def apply_organization_change(session: AsyncSession, event: Event) -> None:
    """Merge a change into our copy, and assign the owner of a requested organization."""
    organization_id = event.data.entity_id
    if organization_id is None:
        return
    change = OrganizationChange.model_validate(event.data.new_values)
    fields = change.model_dump(exclude_unset=True, exclude={"owner_id"})
    if fields:
        await organizations.merge(session, organization_id, event.data.entity_version, fields)
    if change.owner_id is not None:
        await organizations.assign_owner(session, organization_id, change.owner_id)


ORGANIZATIONS: dict[str, Handler] = {
    "organizations.organization.created.v1": apply_organization_change,
    "organizations.organization.updated.v1": apply_organization_change,
    "organizations.organization.deactivated.v1": apply_organization_change,
}

QUEUES: dict[Queue, dict[str, Handler]] = {
    Queue("identity.organizations", ("organizations.organization.*.v1",)): ORGANIZATIONS,
}

READINGS: EventReadings = {kind: EventReading(OrganizationChange) for kind in ORGANIZATIONS}
