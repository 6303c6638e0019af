"""What we receive: the wish for an organization, from a user that was made to own it."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations.service import organizations
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fields import ServiceData
from shared.shapes import Reading, Readings

QUEUE = Queue("organizations.requests", ("identity.organization.requested.v1",))


class OrganizationRequest(ServiceData):
    """What we read of the request; its entity is the owner."""

    organization_name: str


async def make_requested(session: AsyncSession, event: Event) -> None:
    """Make the organization; identity gives it to the owner when it hears of it."""
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no owner")
    wish = OrganizationRequest.model_validate(event.data.new_values)
    await organizations.make_for_owner(session, wish.organization_name, event.data.entity_id)


HANDLERS: dict[str, Handler] = {"identity.organization.requested.v1": make_requested}
READINGS: Readings = {"identity.organization.requested.v1": Reading(OrganizationRequest)}
