"""Routes of voucher types: parse, call, return."""

from typing import Annotated

from fastapi import Query, Response

from services.vouchers import policies, queries
from services.vouchers.endpoints.dependencies import ManagedOrganizationDep, MemberOrganizationDep
from services.vouchers.errors import OrganizationNotFound, VoucherTypeNotFound
from services.vouchers.models import VoucherType
from services.vouchers.schemas.voucher_types import (
    AvailableVoucherType,
    VoucherTypeCreate,
    VoucherTypeRead,
    VoucherTypeUpdate,
)
from services.vouchers.service import voucher_types as service
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, QueryFlag, QueryId
from shared.paging import PageDep, listed
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep
from shared.tenancy import EVERYTHING, limit_to

organization = router(
    prefix="/api/organizations/{organization_id}/voucher-types",
    tags=["voucher types"],
    responses=responses(Unauthenticated, OrganizationNotFound, Invalid),
)
offers = router(
    prefix="/api/voucher-types",
    tags=["voucher types"],
    responses=responses(Unauthenticated, Invalid),
)

_CHANGE = responses(Forbidden, VoucherTypeNotFound, StaleVersion)


def _shown(response: Response, kind: VoucherType) -> VoucherTypeRead:
    set_etag(response, kind.version)
    return VoucherTypeRead.model_validate(kind)


@offers.get("/available")
async def list_available_voucher_types(
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    organization_id: Annotated[QueryId | None, Query(description="Of one organization")] = None,
) -> list[AvailableVoucherType]:
    """List what the caller can buy now, newest first."""
    named = [] if organization_id is None else [organization_id]
    if policies.can_see_all_offers(actor) or actor.is_admin:
        await limit_to(session, EVERYTHING)
    elif actor.organization_id is not None:
        named.append(actor.organization_id)
    rows = await queries.page_of_offers(session, page, named)
    return listed(AvailableVoucherType, rows)


@organization.get("")
async def list_voucher_types(
    organization_id: MemberOrganizationDep,
    session: SessionDep,
    page: PageDep,
    is_active: QueryFlag | None = None,
) -> list[VoucherTypeRead]:
    """List an organization's voucher types, newest first."""
    rows = await queries.page_of_voucher_types(session, page, organization_id, is_active=is_active)
    return listed(VoucherTypeRead, rows)


@organization.post("", status_code=201, responses=responses(Forbidden, ServiceUnavailable))
async def create_voucher_type(
    body: VoucherTypeCreate,
    organization: ManagedOrganizationDep,
    session: SessionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Put a new voucher type on sale."""
    return _shown(response, await service.create(session, organization, body))


@organization.get("/{voucher_type_id}", responses=responses(VoucherTypeNotFound))
async def get_voucher_type(
    organization_id: MemberOrganizationDep,
    voucher_type_id: Id,
    session: SessionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Show a voucher type."""
    kind = await queries.get_voucher_type(session, organization_id, voucher_type_id)
    return _shown(response, kind)


@organization.put("/{voucher_type_id}", responses=_CHANGE)
async def update_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    body: VoucherTypeUpdate,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Change what is sent; vouchers that were sold keep their terms."""
    service.require_manager(actor, organization_id)
    kind = await service.update(
        session, organization_id, voucher_type_id, body.changes(), precondition
    )
    return _shown(response, kind)


@organization.put("/{voucher_type_id}/deactivate", responses=_CHANGE)
async def deactivate_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """End the sale at once; vouchers that were sold keep working."""
    service.require_manager(actor, organization_id)
    kind = await service.deactivate(session, organization_id, voucher_type_id, precondition)
    return _shown(response, kind)


@organization.put("/{voucher_type_id}/activate", responses=_CHANGE)
async def activate_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Put it on sale again."""
    service.require_manager(actor, organization_id)
    kind = await service.activate(session, organization_id, voucher_type_id, precondition)
    return _shown(response, kind)


@organization.delete("/{voucher_type_id}", responses=_CHANGE)
async def delete_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
) -> dict[str, str]:
    """Take it off sale; what was never sold is deleted for good."""
    service.require_manager(actor, organization_id)
    await service.delete(session, organization_id, voucher_type_id, precondition)
    return {"message": "Voucher type deleted successfully"}
