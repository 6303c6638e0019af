"""Routes for Carnet's other services; the gateway never routes them."""

from typing import Annotated

from fastapi import Query

from services.organizations.schemas import OrganizationCopy
from services.organizations.service import organizations
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
    organization = await organizations.organization_with_slug(session, slug)
    return OrganizationCopy.model_validate(organization)


@internal.get("/{organization_id}", dependencies=[called_by("identity", "vouchers")])
async def copy_organization(organization_id: Id, session: InternalSessionDep) -> OrganizationCopy:
    """Return an organization for a service that does not have it yet."""
    organization = await organizations.organization_for_copy(session, organization_id)
    return OrganizationCopy.model_validate(organization)
