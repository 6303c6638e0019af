"""Our copies of organizations: merged from events and requests, in whatever order they arrive."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import case
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import OrganizationNotFound
from services.identity.models import OrganizationCopy
from services.identity.schemas.users import OrganizationFacts
from shared.changes import record
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.tenancy import see_all_tenants
from shared.work import Work


async def merge(
    session: AsyncSession, organization_id: int, version: int, fields: Mapping[str, Any]
) -> None:
    """Merge fields of an organization as of a version; a field that is absent stays.

    Each field is stored with the version it is from, so an older message does not overwrite a
    newer one, and a newer message does not hide a field that only an older one contained. The
    organization stays locked until the transaction ends: ON CONFLICT covers one unique key, and of
    two transactions that insert the same organization at once the second could fail by the other
    key, the slug.
    """
    await queries.lock_organization_copy(session, organization_id)
    table = OrganizationCopy.__table__.c
    row: dict[str, Any] = {"id": organization_id, "updated_at": now(), **fields}
    row |= {f"{name}_version": version for name in fields}
    statement = insert(OrganizationCopy).values(row)
    changes: dict[str, Any] = {"updated_at": statement.excluded.updated_at}
    for name in fields:
        is_newer = statement.excluded[f"{name}_version"] > table[f"{name}_version"]
        for column in (name, f"{name}_version"):
            changes[column] = case((is_newer, statement.excluded[column]), else_=table[column])
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changes))


async def store(session: AsyncSession, facts: OrganizationFacts) -> None:
    """Merge a whole organization, as its service returned it."""
    # Not what is absent: an older version of that service does not return every field.
    fields = facts.model_dump(exclude_unset=True, exclude={"id", "version"})
    await merge(session, facts.id, facts.version, fields)


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

    It is requested too when an older copy lacks the letterhead. Then the copy is enough if that
    service does not answer.

    Raises ServiceUnavailable when there is no copy and that service does not answer.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        copy = await queries.find_organization_copy(session, organization_id)
    if copy is not None and copy.has_letterhead:
        return copy
    try:
        return await _fetch(work, clients, f"/internal/organizations/{organization_id}") or copy
    except ServiceUnavailable:
        if copy is None:
            raise
        return copy


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
