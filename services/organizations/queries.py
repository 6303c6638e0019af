"""Every SELECT of this service."""

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations.errors import OrganizationNotFound
from services.organizations.models import Founding, Organization
from services.organizations.schemas import OrganizationRead
from shared.db import now
from shared.paging import Page
from shared.reads import Document, JsonQuery, Reader
from shared.text import contains

_FIELDS = dict(Organization.__table__.columns)
_SOURCE = select().select_from(Organization)
_TEXT = bindparam("text", type_=Text)
_DETAIL = JsonQuery(
    OrganizationRead,
    _SOURCE.where(Organization.id == bindparam("organization_id")),
    _FIELDS,
    facts={"version": Organization.version},
)
_LIST = JsonQuery(
    OrganizationRead,
    _SOURCE,
    _FIELDS,
    filters={
        "text": contains(Organization.name, _TEXT) | contains(Organization.slug, _TEXT),
        "is_active": Organization.is_active == bindparam("is_active"),
    },
    order=(Organization.id,),
)


async def find_organization(session: AsyncSession, organization_id: int) -> Organization | None:
    """Return an organization, or None."""
    return await session.get(Organization, organization_id)


async def get_organization(session: AsyncSession, organization_id: int) -> Organization:
    """Return an organization. Raises OrganizationNotFound."""
    organization = await find_organization(session, organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def lock_organization(session: AsyncSession, organization_id: int) -> Organization:
    """Return an organization, locked for a change. Raises OrganizationNotFound."""
    organization = await session.get(Organization, organization_id, with_for_update=True)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def find_organization_by_slug(session: AsyncSession, slug: str) -> Organization | None:
    """Return the organization with this slug, or None."""
    return await session.scalar(select(Organization).where(Organization.slug == slug))


async def get_organization_by_slug(session: AsyncSession, slug: str) -> Organization:
    """Return the organization with this slug. Raises OrganizationNotFound."""
    organization = await find_organization_by_slug(session, slug)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def find_document(reader: Reader, organization_id: int) -> Document | None:
    """Return an organization as JSON with its version, or None."""
    return await _DETAIL.find(reader, organization_id=organization_id)


async def page_of_organizations(
    reader: Reader, page: Page, *, text: str | None, is_active: bool | None
) -> bytes:
    """Return a page of organizations as JSON, newest first; `text` is a part of the name or the
    slug."""
    return await _LIST.page(reader, page, text=text or None, is_active=is_active)


async def next_organization_id(session: AsyncSession) -> int:
    """Reserve the id of an organization that is about to be founded."""
    sequence = func.pg_get_serial_sequence("organizations", "id")
    organization_id: int = (await session.execute(select(func.nextval(sequence)))).scalar_one()
    return organization_id


async def lock_slug(session: AsyncSession, slug: str) -> None:
    """Lock the slugs that begin like this one, until the transaction ends.

    Numbers at the end do not count: "Foo" may need the slug that "Foo 2" would get, foo-2.
    """
    key = func.hashtextextended(re.sub(r"(-\d+)+$", "", slug), 2)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def used_slugs(session: AsyncSession, slug: str) -> set[str]:
    """Return the slugs like this one, with or without a number, that are used or reserved."""
    organizations, foundings = (
        select(model.slug).where(model.slug.startswith(slug, autoescape=True))
        for model in (Organization, Founding)
    )
    return set(await session.scalars(organizations.union_all(foundings)))


async def lock_founding(session: AsyncSession, organization_id: int) -> Founding | None:
    """Return a founding that is not completed, locked, or None."""
    return await session.get(Founding, organization_id, with_for_update=True)


async def list_interrupted_foundings(
    session: AsyncSession, started_before: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of foundings that started before an instant and are due, oldest first."""
    statement = select(Founding.organization_id).where(
        Founding.started_at < started_before,
        Founding.next_attempt_at.is_(None) | (Founding.next_attempt_at <= now()),
    )
    return (await session.scalars(statement.order_by(Founding.started_at).limit(limit))).all()


async def count_failing_foundings(session: AsyncSession) -> int:
    """Return how many foundings could not be settled at their last attempt."""
    statement = select(func.count()).where(Founding.failures > 0)
    return (await session.execute(statement)).scalar_one()
