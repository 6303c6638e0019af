"""The events that this service receives: requests for an organization from its future owner."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations.service import organizations
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fields import ServiceData
from shared.shapes import EventReading, EventReadings


class OrganizationRequest(ServiceData):
    """What we read of the request; its entity is the owner."""

    organization_name: str


async def make_requested(session: AsyncSession, event: Event) -> None:
    """Make the organization; its event returns to identity, which gives it to the owner."""
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no owner")
    request = OrganizationRequest.model_validate(event.data.new_values)
    await organizations.make_for_owner(session, request.organization_name, event.data.entity_id)


_REQUESTED = "identity.organization.requested.v1"
REQUESTS = Queue("organizations.requests", (_REQUESTED,))
QUEUES: dict[Queue, dict[str, Handler]] = {REQUESTS: {_REQUESTED: make_requested}}
READINGS: EventReadings = {_REQUESTED: EventReading(OrganizationRequest)}
