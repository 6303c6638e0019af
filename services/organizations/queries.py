"""Every select of this service."""

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations.errors import OrganizationNotFound
from services.organizations.models import Founding, Organization
from services.organizations.schemas import OrganizationRead
from shared.db import now
from shared.paging import Page
from shared.text import contains

_READ = [getattr(Organization, name) for name in OrganizationRead.model_fields]


async def find(session: AsyncSession, organization_id: int) -> Organization | None:
    """Return an organization, or None."""
    return await session.get(Organization, organization_id)


async def get(session: AsyncSession, organization_id: int) -> Organization:
    """Return an organization; raises OrganizationNotFound."""
    organization = await find(session, organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def lock(session: AsyncSession, organization_id: int) -> Organization:
    """Return an organization, locked for a change; raises OrganizationNotFound."""
    organization = await session.get(Organization, organization_id, with_for_update=True)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def find_by_slug(session: AsyncSession, slug: str) -> Organization | None:
    """Return the organization with this slug, or None."""
    return await session.scalar(select(Organization).where(Organization.slug == slug))


async def page_of_organizations(
    session: AsyncSession, page: Page, *, text: str | None, is_active: bool | None
) -> list[Row[tuple[object, ...]]]:
    """Return a page of organizations, newest first, filtered by a part of the name or slug."""
    statement = select(*_READ)
    if text:
        statement = statement.where(
            contains(Organization.name, text) | contains(Organization.slug, text)
        )
    if is_active is not None:
        statement = statement.where(Organization.is_active == is_active)
    rows = (await session.execute(page.of(statement, Organization.id))).all()
    return page.cut(rows, lambda row: (row.id,))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


async def next_organization_id(session: AsyncSession) -> int:
    """Take the id of an organization that is about to be founded."""
    sequence = func.pg_get_serial_sequence("organizations", "id")
    taken: int = (await session.execute(select(func.nextval(sequence)))).scalar_one()
    return taken


async def lock_slug(session: AsyncSession, slug: str) -> None:
    """Let nobody else choose among the slugs that begin like this one until we have.

    Numbers at the end do not count: "Foo" may get what "Foo 2" would, foo-2.
    """
    key = func.hashtextextended(re.sub(r"(-\d+)+$", "", slug), 2)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def taken_slugs(session: AsyncSession, slug: str) -> set[str]:
    """Return the slugs like this one, with or without a number, that are in use or promised."""
    pattern = f"{_escaped(slug)}%"
    statement = select(Organization.slug).where(Organization.slug.like(pattern))
    promised = select(Founding.slug).where(Founding.slug.like(pattern))
    return set(await session.scalars(statement.union_all(promised)))


async def lock_founding(session: AsyncSession, organization_id: int) -> Founding | None:
    """Return a founding that is still under way, locked, or None."""
    return await session.get(Founding, organization_id, with_for_update=True)


async def interrupted_foundings(
    session: AsyncSession, started_before: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of foundings that started before an instant and that are due, the oldest
    first."""
    statement = select(Founding.organization_id).where(
        Founding.started_at < started_before,
        Founding.next_attempt_at.is_(None) | (Founding.next_attempt_at <= now()),
    )
    return (await session.scalars(statement.order_by(Founding.started_at).limit(limit))).all()


async def count_failing_foundings(session: AsyncSession) -> int:
    """Return how many foundings could not be settled at their last attempt."""
    statement = select(func.count()).where(Founding.failures > 0)
    return (await session.execute(statement)).scalar_one()
