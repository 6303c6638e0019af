"""Selects of our copies of organizations."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import (
    OrganizationCopy,
)


async def lock_organization_copy(session: AsyncSession, organization_id: int) -> None:
    """Let nobody else write our copy of an organization, or make its first owner, until we have.

    Not the row's lock: there may be no row yet.
    """
    key = func.hashtextextended(f"organization copy {organization_id}", 4)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def find_organization_copy(
    session: AsyncSession, organization_id: int
) -> OrganizationCopy | None:
    """Return a whole copy of an organization, or None."""
    copy = await session.get(OrganizationCopy, organization_id)
    return copy if copy is not None and copy.is_complete else None


async def find_organization_copy_by_slug(
    session: AsyncSession, slug: str
) -> OrganizationCopy | None:
    """Return a whole copy of the organization with this slug, or None."""
    copy = await session.scalar(select(OrganizationCopy).where(OrganizationCopy.slug == slug))
    return copy if copy is not None and copy.is_complete else None
