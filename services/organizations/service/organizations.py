"""Use cases: found, read, change and deactivate organizations."""

from typing import Any

from slugify import slugify
from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations import policies, queries
from services.organizations.errors import OrganizationNotFound
from services.organizations.models import Organization
from shared.actors import Actor
from shared.changes import record
from shared.errors import Forbidden
from shared.preconditions import Precondition

MAX_SLUG_LENGTH = 80


def require_admin(actor: Actor) -> None:
    """Raise Forbidden for anybody but an administrator of the system."""
    if not actor.is_admin:
        raise Forbidden("for administrators of the system")


async def visible(session: AsyncSession, actor: Actor, organization_id: int) -> Organization:
    """Return an organization that the actor may see; raises OrganizationNotFound."""
    if not policies.can_see(actor, organization_id):
        raise OrganizationNotFound
    return await queries.get(session, organization_id)


async def free_slug(session: AsyncSession, name: str) -> str:
    """Return a slug for a name in any script, numbered from `-2` when it is taken."""
    slug = slugify(name, max_length=MAX_SLUG_LENGTH) or "organization"
    await queries.lock_slug(session, slug)
    taken = await queries.taken_slugs(session, slug)
    numbered = (f"{slug}-{number}" for number in range(2, len(taken) + 3))
    return slug if slug not in taken else next(s for s in numbered if s not in taken)


async def make_for_owner(session: AsyncSession, name: str, owner_id: int) -> Organization:
    """Make an organization that a user waits for; its event tells identity for whom it is."""
    organization = Organization(name=name, slug=await free_slug(session, name))
    session.add(organization)
    record(session, "CREATE", organization, owner_id=owner_id)
    await session.flush()
    return organization


async def update(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> Organization:
    """Change an organization. The slug stays: clients have it in their links.

    Raises OrganizationNotFound, Forbidden, StaleVersion.
    """
    if not policies.can_see(actor, organization_id):
        raise OrganizationNotFound
    organization = await queries.lock(session, organization_id)
    if not policies.can_manage(actor, organization_id):
        raise Forbidden("needs the permission manage_organization")
    precondition.check(organization.version)
    was_active = organization.is_active
    for name, value in changes.items():
        setattr(organization, name, value)
    if session.is_modified(organization):
        closing = was_active and not organization.is_active
        record(session, "DEACTIVATE" if closing else "UPDATE", organization)
        await session.flush()
    return organization


async def deactivate(session: AsyncSession, organization_id: int) -> None:
    """Close an organization: no sign-in, no sale; its records and live vouchers stay."""
    organization = await queries.lock(session, organization_id)
    if organization.is_active:
        organization.is_active = False
        record(session, "DEACTIVATE", organization)
