"""Our copies of organizations: merged from events and requests, in whatever order they arrive."""

from typing import Any

from sqlalchemy import case
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import OrganizationNotFound
from services.identity.models import OrganizationCopy
from services.identity.schemas import OrganizationFacts
from shared.changes import record
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.tenancy import see_all_tenants
from shared.work import Work


async def merge(
    session: AsyncSession,
    organization_id: int,
    version: int,
    *,
    slug: str | None = None,
    is_active: bool | None = None,
) -> None:
    """Merge the fields of an organization as of a version; a field that is None stays.

    Each field is stored with the version it is from, so an older message does not overwrite a
    newer one, and a newer message does not hide a field that only an older one contained. The
    organization stays locked until the transaction ends: ON CONFLICT covers one unique key, and of
    two transactions that insert the same organization at once the second could fail by the other
    key, the slug.
    """
    await queries.lock_organization_copy(session, organization_id)
    table = OrganizationCopy.__table__.c
    fields: dict[str, Any] = {"slug": slug, "is_active": is_active}
    row: dict[str, Any] = {"id": organization_id, "updated_at": now()}
    for name, value in fields.items():
        row |= {name: value, f"{name}_version": 0 if value is None else version}
    statement = insert(OrganizationCopy).values(row)
    changes: dict[str, Any] = {"updated_at": statement.excluded.updated_at}
    for name in fields:
        is_newer = statement.excluded[f"{name}_version"] > table[f"{name}_version"]
        for column in (name, f"{name}_version"):
            changes[column] = case((is_newer, statement.excluded[column]), else_=table[column])
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changes))


async def store(session: AsyncSession, facts: OrganizationFacts) -> None:
    """Merge a whole organization, as its service returned it."""
    await merge(session, facts.id, facts.version, slug=facts.slug, is_active=facts.is_active)


async def assign_owner(session: AsyncSession, organization_id: int, owner_id: int) -> None:
    """Move a user into the organization that was created at the user's request.

    Does nothing for a user who requested none, or who belongs to an organization already.
    """
    user = await queries.find_user_for_update(session, owner_id)
    if user is None or user.requested_organization is None or user.organization_id is not None:
        return
    user.move_to(organization_id)
    record(session, "UPDATE", user, **user.invalidate_tokens())


async def get(work: Work, clients: ServiceClients, organization_id: int) -> OrganizationCopy:
    """Return an organization; raises OrganizationNotFound and ServiceUnavailable, as `find`."""
    organization = await find(work, clients, organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def find(
    work: Work, clients: ServiceClients, organization_id: int
) -> OrganizationCopy | None:
    """Return an organization or None; its service is requested when there is no copy.

    Raises ServiceUnavailable when that service does not answer.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        copy = await queries.find_organization_copy(session, organization_id)
    if copy is not None:
        return copy
    return await _fetch(work, clients, f"/internal/organizations/{organization_id}")


async def find_by_slug(work: Work, clients: ServiceClients, slug: str) -> OrganizationCopy | None:
    """Return the organization with a slug or None; its service is requested when there is no copy.

    Raises ServiceUnavailable when that service does not answer.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        copy = await queries.find_organization_copy_by_slug(session, slug)
    if copy is not None:
        return copy
    return await _fetch(work, clients, "/internal/organizations", {"slug": slug})


async def _fetch(
    work: Work, clients: ServiceClients, path: str, params: dict[str, Any] | None = None
) -> OrganizationCopy | None:
    response = await clients.request("organizations", "GET", path, work.origin, params=params)
    if response.status_code == 404:
        return None
    if response.status_code != 200:
        raise ServiceUnavailable("The organizations service refused the request. Try again later.")
    facts = OrganizationFacts.model_validate_json(response.content)
    async with work.begin() as session:
        await see_all_tenants(session)
        await store(session, facts)
        return await queries.find_organization_copy(session, facts.id)
