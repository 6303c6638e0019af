"""Routes of organizations, for administrators of the system and for members."""

from typing import Annotated

from fastapi import Query, Response

from services.organizations.errors import EmailTaken, OrganizationNotFound
from services.organizations.models import Organization
from services.organizations.schemas import (
    OrganizationAdminUpdate,
    OrganizationCreate,
    OrganizationFounded,
    OrganizationRead,
    OrganizationUpdate,
)
from services.organizations.service import founding, organizations
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, StaleVersion, Unauthenticated, responses
from shared.fields import Id, Name, QueryFlag
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import ClientsDep, ReaderDep, SessionDep, WorkDep

admin = router(
    prefix="/api/admin/organizations",
    tags=["organizations"],
    responses=responses(Unauthenticated, Forbidden, Invalid),
)
members = router(
    prefix="/api/organizations",
    tags=["organizations"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


def _tagged(response: Response, organization: Organization) -> OrganizationRead:
    """Return an organization as the API shows it, and set its ETag."""
    set_etag(response, organization.version)
    return OrganizationRead.model_validate(organization)


@admin.get("", response_model=list[OrganizationRead])
async def list_organizations(
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    q: Annotated[Name | None, Query(description="A part of the name or slug")] = None,
    is_active: QueryFlag | None = None,
) -> Response:
    """List organizations, newest first."""
    body = await organizations.list_organizations(reader, actor, page, text=q, is_active=is_active)
    return json_response(response, body)


@admin.post("", status_code=201, responses=responses(EmailTaken))
async def found_organization(
    body: OrganizationCreate, actor: ActorDep, work: WorkDep, clients: ClientsDep
) -> OrganizationFounded:
    """Found an organization together with its owner: both exist afterwards, or neither."""
    organization, owner = await founding.found_organization(work, actor, clients, body)
    fields = OrganizationRead.model_validate(organization).model_dump()
    return OrganizationFounded(**fields, owner=owner)


@admin.get(
    "/{organization_id}",
    response_model=OrganizationRead,
    responses=responses(OrganizationNotFound),
)
async def get_organization_as_admin(
    organization_id: Id, reader: ReaderDep, actor: ActorDep, response: TaggedResponse
) -> Response:
    """Show any organization."""
    document = await organizations.get_organization_as_admin(reader, actor, organization_id)
    return json_response(response, document.body, version=document.facts.version)


@admin.put("/{organization_id}", responses=responses(OrganizationNotFound, StaleVersion))
async def update_organization_as_admin(
    organization_id: Id,
    body: OrganizationAdminUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> OrganizationRead:
    """Change any organization; `is_active` closes and reopens it."""
    organization = await organizations.update_organization_as_admin(
        session, actor, organization_id, body.changes(), precondition
    )
    return _tagged(response, organization)


@admin.delete("/{organization_id}", responses=responses(OrganizationNotFound))
async def deactivate_organization(
    organization_id: Id, session: SessionDep, actor: ActorDep
) -> dict[str, str]:
    """Deactivate an organization; nothing of it is deleted."""
    await organizations.deactivate_organization(session, actor, organization_id)
    return {"message": "Organization deactivated successfully"}


@members.get("/{organization_id}", response_model=OrganizationRead)
async def get_organization(
    organization_id: Id, reader: ReaderDep, actor: ActorDep, response: TaggedResponse
) -> Response:
    """Show one's own organization."""
    document = await organizations.get_organization(reader, actor, organization_id)
    return json_response(response, document.body, version=document.facts.version)


@members.put("/{organization_id}", responses=responses(StaleVersion))
async def update_organization(
    organization_id: Id,
    body: OrganizationUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> OrganizationRead:
    """Change the settings of one's own organization."""
    organization = await organizations.update_organization(
        session, actor, organization_id, body.changes(), precondition
    )
    return _tagged(response, organization)
