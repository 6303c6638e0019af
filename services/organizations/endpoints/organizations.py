"""Routes: parse, call, return."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from services.organizations import queries
from services.organizations.errors import EmailTaken, OrganizationNotFound
from services.organizations.models import Organization
from services.organizations.schemas import (
    OrganizationAdminUpdate,
    OrganizationCreate,
    OrganizationFounded,
    OrganizationRead,
    OrganizationUpdate,
    OwnerRead,
)
from services.organizations.service import founding, organizations
from shared.actors import Actor
from shared.auth import ActorDep
from shared.clients import ServiceClients
from shared.errors import Forbidden, Invalid, StaleVersion, Unauthenticated, responses
from shared.fields import Id, Name, QueryFlag
from shared.paging import PageDep, listed
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

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


async def _admin(actor: ActorDep) -> Actor:
    organizations.require_admin(actor)
    return actor


async def _clients(request: Request) -> ServiceClients:
    clients: ServiceClients = request.app.state.clients
    return clients


AdminDep = Annotated[Actor, Depends(_admin)]
ClientsDep = Annotated[ServiceClients, Depends(_clients)]


def _shown(response: Response, organization: Organization) -> OrganizationRead:
    set_etag(response, organization.version)
    return OrganizationRead.model_validate(organization)


@admin.get("")
async def list_organizations(
    session: SessionDep,
    _admin: AdminDep,
    page: PageDep,
    q: Annotated[Name | None, Query(description="A part of the name or slug")] = None,
    is_active: QueryFlag | None = None,
) -> list[OrganizationRead]:
    """List organizations, newest first."""
    rows = await queries.page_of_organizations(session, page, text=q, is_active=is_active)
    return listed(OrganizationRead, rows)


@admin.post("", status_code=201, responses=responses(EmailTaken))
async def found_organization(
    body: OrganizationCreate, _admin: AdminDep, work: WorkDep, clients: ClientsDep
) -> OrganizationFounded:
    """Found an organization together with its owner: both exist afterwards, or neither."""
    organization, owner = await founding.found(work, clients, body)
    return _founded(organization, owner)


def _founded(organization: Organization, owner: OwnerRead) -> OrganizationFounded:
    shown: dict[str, Any] = OrganizationRead.model_validate(organization).model_dump()
    return OrganizationFounded(**shown, owner=owner)


@admin.get("/{organization_id}", responses=responses(OrganizationNotFound))
async def get_organization_as_admin(
    organization_id: Id, session: SessionDep, _admin: AdminDep, response: TaggedResponse
) -> OrganizationRead:
    """Show any organization."""
    return _shown(response, await queries.get(session, organization_id))


@admin.put("/{organization_id}", responses=responses(OrganizationNotFound, StaleVersion))
async def update_organization_as_admin(
    organization_id: Id,
    body: OrganizationAdminUpdate,
    session: SessionDep,
    actor: AdminDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> OrganizationRead:
    """Change any organization; `is_active` closes and reopens it."""
    changed = await organizations.update(
        session, actor, organization_id, body.changes(), precondition
    )
    return _shown(response, changed)


@admin.delete("/{organization_id}", responses=responses(OrganizationNotFound))
async def deactivate_organization(
    organization_id: Id, session: SessionDep, _admin: AdminDep
) -> dict[str, str]:
    """Deactivate an organization; nothing of it is deleted."""
    await organizations.deactivate(session, organization_id)
    return {"message": "Organization deactivated successfully"}


@members.get("/{organization_id}")
async def get_organization(
    organization_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> OrganizationRead:
    """Show one's own organization."""
    return _shown(response, await organizations.visible(session, actor, organization_id))


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
    changed = await organizations.update(
        session, actor, organization_id, body.changes(), precondition
    )
    return _shown(response, changed)
