"""Our copy of organizations: merged from events and look-ups, whatever their order."""

from typing import Any

from sqlalchemy import case
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.models import OrganizationCopy
from services.identity.schemas import OrganizationFacts
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.tenancy import EVERYTHING
from shared.work import Work


async def merge(
    session: AsyncSession,
    organization_id: int,
    version: int,
    *,
    slug: str | None = None,
    is_active: bool | None = None,
) -> None:
    """Take what is known of an organization as of a version; fields not named stay.

    Each field has the version it is from, so an older message never undoes a newer one and a
    newer one never hides what only an older one told. The organization stays locked until the
    transaction ends: ON CONFLICT covers one unique key, and of two who insert the same
    organization at once the second could fail by the other one, the slug.
    """
    await queries.lock_organization_copy(session, organization_id)
    table = OrganizationCopy.__table__.c
    known: dict[str, Any] = {"slug": slug, "is_active": is_active}
    row: dict[str, Any] = {"id": organization_id, "updated_at": now()}
    for name, value in known.items():
        row |= {name: value, f"{name}_version": 0 if value is None else version}
    statement = insert(OrganizationCopy).values(row)
    newer: dict[str, Any] = {"updated_at": statement.excluded.updated_at}
    for name in known:
        is_news = statement.excluded[f"{name}_version"] > table[f"{name}_version"]
        for column in (name, f"{name}_version"):
            newer[column] = case((is_news, statement.excluded[column]), else_=table[column])
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=newer))


async def take(session: AsyncSession, facts: OrganizationFacts) -> None:
    """Take a whole organization, as its service showed it."""
    await merge(session, facts.id, facts.version, slug=facts.slug, is_active=facts.is_active)


async def find(
    work: Work, clients: ServiceClients, organization_id: int
) -> OrganizationCopy | None:
    """Return an organization, asking its service when our copy does not have it, or None.

    Raises ServiceUnavailable when it is needed and its service does not answer.
    """
    async with work.begin(EVERYTHING) as session:
        copy = await queries.find_organization_copy(session, organization_id)
    if copy is not None:
        return copy
    return await _ask(work, clients, f"/internal/organizations/{organization_id}")


async def find_by_slug(work: Work, clients: ServiceClients, slug: str) -> OrganizationCopy | None:
    """Return the same by its slug."""
    async with work.begin(EVERYTHING) as session:
        copy = await queries.find_organization_copy_by_slug(session, slug)
    if copy is not None:
        return copy
    return await _ask(work, clients, "/internal/organizations", {"slug": slug})


async def _ask(
    work: Work, clients: ServiceClients, path: str, params: dict[str, Any] | None = None
) -> OrganizationCopy | None:
    answer = await clients.request("organizations", "GET", path, work.origin, params=params)
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise ServiceUnavailable("The organizations service refused to answer.")
    facts = OrganizationFacts.model_validate_json(answer.content)
    async with work.begin(EVERYTHING) as session:
        await take(session, facts)
        return await queries.find_organization_copy(session, facts.id)
