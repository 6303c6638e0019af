"""Therapists as resources: identity's events and a timer keep one for each of them."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.models import ClientCopy, Resource, ResourceKind
from shared.changes import record
from shared.transactions import Transactions

_BATCH = 200


async def follow_user(session: AsyncSession, user_id: int | None) -> None:
    """Create, activate or deactivate the resources of a user, as its copy states.

    An active therapist has an active resource in the organization. Whoever left, was deactivated or
    has become a client has none: the sessions stay, and there are no free times. An owner or staff
    whom a manager made a therapist keeps the resource.
    """
    if user_id is None or (user := await session.get(ClientCopy, user_id)) is None:
        return
    await session.refresh(user)
    own = None
    for resource in await queries.resources_of_user(session, user.id):
        is_here = resource.organization_id == user.organization_id
        own = resource if is_here else own
        gives_sessions = is_here and user.is_active and user.role in policies.EMPLOYED
        # A therapist whom a manager took out of use stays out of use.
        if resource.is_active and not gives_sessions:
            resource.is_active = False
            record(session, "DEACTIVATE", resource)
    if own is None and user.is_active and user.role == policies.THERAPIST and user.organization_id:
        therapist = Resource(
            organization_id=user.organization_id,
            kind=ResourceKind.THERAPIST,
            user_id=user.id,
            is_active=True,
        )
        session.add(therapist)
        record(session, "CREATE", therapist)
    await session.flush()


async def add_missing_therapists(transactions: Transactions) -> int:
    """Create the resources of therapists whom no event has reported; return their number.

    They were users before this version, or came with the upgrade from version 1.
    """
    async with transactions.system() as session:
        user_ids = await queries.list_therapists_without_resource(session, _BATCH)
        for user_id in user_ids:
            await follow_user(session, user_id)
    return len(user_ids)
