"""What we receive: news of organizations."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.service import organizations
from shared.bus import Queue
from shared.changes import record
from shared.consumer import Handler
from shared.events import Event
from shared.fields import ServiceData
from shared.shapes import Reading, Readings

QUEUE = Queue("identity.organizations", ("organizations.organization.*.v1",))


class OrganizationChange(ServiceData):
    """What we read of an organization's event; what did not change is missing."""

    slug: str | None = None
    is_active: bool | None = None
    owner_id: int | None = None
    """The user for whom the organization was made, if identity had asked for it."""


async def apply_organization_change(session: AsyncSession, event: Event) -> None:
    """Merge what changed into our copy; an organization that was asked for gets its owner."""
    organization_id = event.data.entity_id
    if organization_id is None:
        return
    news = OrganizationChange.model_validate(event.data.new_values)
    if news.slug is not None or news.is_active is not None:
        await organizations.merge(
            session,
            organization_id,
            event.data.entity_version,
            slug=news.slug,
            is_active=news.is_active,
        )
    if news.owner_id is not None:
        await _give_to_owner(session, organization_id, news.owner_id)


async def _give_to_owner(session: AsyncSession, organization_id: int, owner_id: int) -> None:
    user = await queries.lock_user(session, owner_id)
    if user is None or user.requested_organization is None or user.organization_id is not None:
        return
    user.move_to(organization_id)
    record(session, "UPDATE", user, **user.invalidate_tokens())


HANDLERS: dict[str, Handler] = {
    "organizations.organization.created.v1": apply_organization_change,
    "organizations.organization.updated.v1": apply_organization_change,
    "organizations.organization.deactivated.v1": apply_organization_change,
}

READINGS: Readings = {kind: Reading(OrganizationChange) for kind in HANDLERS}
