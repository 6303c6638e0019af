"""Selects of our copies of organizations."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import OrganizationCopy


async def lock_organization_copy(session: AsyncSession, organization_id: int) -> None:
    """Lock our copy of an organization, and the creation of its first owner.

    It is an advisory lock until the end of the transaction: there may be no row to lock yet.
    """
    key = func.hashtextextended(f"organization copy {organization_id}", 4)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def find_organization_copy(
    session: AsyncSession, organization_id: int
) -> OrganizationCopy | None:
    """Return a complete copy of an organization, or None."""
    copy = await session.get(OrganizationCopy, organization_id)
    return copy if copy is not None and copy.is_complete else None


async def find_organization_copy_by_slug(
    session: AsyncSession, slug: str
) -> OrganizationCopy | None:
    """Return a complete copy of the organization with this slug, or None."""
    copy = await session.scalar(select(OrganizationCopy).where(OrganizationCopy.slug == slug))
    return copy if copy is not None and copy.is_complete else None
