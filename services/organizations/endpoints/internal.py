"""What other services of Carnet may ask; never routed by the gateway."""

from typing import Annotated

from fastapi import Query

from services.organizations import queries
from services.organizations.errors import OrganizationNotFound
from services.organizations.schemas import OrganizationCopy
from shared.auth import called_by
from shared.fields import Id
from shared.routing import router
from shared.sessions import InternalSessionDep

internal = router(prefix="/internal/organizations", include_in_schema=False)


@internal.get("", dependencies=[called_by("identity", "vouchers")])
async def find_organization(
    slug: Annotated[str, Query(max_length=255)], session: InternalSessionDep
) -> OrganizationCopy:
    """Return the organization with this slug."""
    organization = await queries.find_by_slug(session, slug)
    if organization is None:
        raise OrganizationNotFound
    return OrganizationCopy.model_validate(organization)


@internal.get("/{organization_id}", dependencies=[called_by("identity", "vouchers")])
async def copy_organization(organization_id: Id, session: InternalSessionDep) -> OrganizationCopy:
    """Return an organization for a service that does not have it yet."""
    return OrganizationCopy.model_validate(await queries.get(session, organization_id))
