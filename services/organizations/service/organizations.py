"""Use cases: list, read, change and deactivate organizations."""

from typing import Any

from slugify import slugify
from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations import queries
from services.organizations.access import require_admin, require_manager, require_member
from services.organizations.errors import OrganizationNotFound
from services.organizations.models import Organization
from shared.actors import Actor
from shared.changes import record
from shared.paging import Page
from shared.preconditions import Precondition
from shared.reads import Document, Reader

MAX_SLUG_LENGTH = 80


async def list_organizations(
    reader: Reader, actor: Actor, page: Page, *, text: str | None, is_active: bool | None
) -> bytes:
    """Return a page of organizations as JSON, newest first, for an administrator.

    Raises Forbidden.
    """
    require_admin(actor)
    return await queries.page_of_organizations(reader, page, text=text, is_active=is_active)


async def get_organization(reader: Reader, actor: Actor, organization_id: int) -> Document:
    """Return an organization that the actor may see, as JSON. Raises OrganizationNotFound."""
    require_member(actor, organization_id)
    return await _get_document(reader, organization_id)


async def get_organization_as_admin(reader: Reader, actor: Actor, organization_id: int) -> Document:
    """Return any organization as JSON, for an administrator.

    Raises Forbidden, OrganizationNotFound.
    """
    require_admin(actor)
    return await _get_document(reader, organization_id)


async def _get_document(reader: Reader, organization_id: int) -> Document:
    document = await queries.find_document(reader, organization_id)
    if document is None:
        raise OrganizationNotFound
    return document


async def organization_with_slug(session: AsyncSession, slug: str) -> Organization:
    """Return the organization with this slug, for another service. Raises OrganizationNotFound."""
    return await queries.get_organization_by_slug(session, slug)


async def organization_for_copy(session: AsyncSession, organization_id: int) -> Organization:
    """Return an organization, for another service. Raises OrganizationNotFound."""
    return await queries.get_organization(session, organization_id)


async def free_slug(session: AsyncSession, name: str) -> str:
    """Return an unused slug for a name in any script, numbered from `-2` if others have it."""
    slug = slugify(name, max_length=MAX_SLUG_LENGTH) or "organization"
    await queries.lock_slug(session, slug)
    others = await queries.used_slugs(session, slug)
    candidates = (f"{slug}-{number}" for number in range(2, len(others) + 3))
    return slug if slug not in others else next(s for s in candidates if s not in others)


async def make_for_owner(session: AsyncSession, name: str, owner_id: int) -> Organization:
    """Make an organization that a new user waits for; its event names that user as the owner."""
    organization = Organization(name=name, slug=await free_slug(session, name))
    session.add(organization)
    record(session, "CREATE", organization, owner_id=owner_id)
    await session.flush()
    return organization


async def update_organization(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> Organization:
    """Change an organization. The slug stays, because clients have it in their links.

    Raises OrganizationNotFound, Forbidden, StaleVersion.
    """
    require_manager(actor, organization_id)
    organization = await queries.lock_organization(session, organization_id)
    precondition.check(organization.version)
    was_active = organization.is_active
    for name, value in changes.items():
        setattr(organization, name, value)
    if session.is_modified(organization):
        closes = was_active and not organization.is_active
        record(session, "DEACTIVATE" if closes else "UPDATE", organization)
        await session.flush()
    return organization


async def update_organization_as_admin(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> Organization:
    """Change any organization, for an administrator.

    Raises Forbidden, OrganizationNotFound, StaleVersion.
    """
    require_admin(actor)
    return await update_organization(session, actor, organization_id, changes, precondition)


async def deactivate_organization(
    session: AsyncSession, actor: Actor, organization_id: int
) -> None:
    """Close an organization: no sign-in, no sale; its records and live vouchers stay.

    Raises Forbidden for everyone except administrators, and OrganizationNotFound.
    """
    require_admin(actor)
    organization = await queries.lock_organization(session, organization_id)
    if organization.is_active:
        organization.is_active = False
        record(session, "DEACTIVATE", organization)
