"""Routes of voucher types."""

from typing import Annotated

from fastapi import Query, Response

from services.vouchers.endpoints.dependencies import AccountModeDep, ManagedOrganizationDep
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
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep

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


def _tagged(response: Response, voucher_type: VoucherType) -> VoucherTypeRead:
    set_etag(response, voucher_type.version)
    return VoucherTypeRead.model_validate(voucher_type)


@offers.get("/available", response_model=list[AvailableVoucherType])
async def list_available_voucher_types(
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    accounts: AccountModeDep,
    response: Response,
    organization_id: Annotated[
        QueryId | None, Query(description="Of one organization only")
    ] = None,
) -> Response:
    """List the voucher types that the user can buy now, newest first, with the methods of payment
    that are available for each."""
    body = await service.list_available(reader, actor, page, accounts, organization_id)
    return json_response(response, body)


@organization.get("", response_model=list[VoucherTypeRead])
async def list_voucher_types(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    is_active: QueryFlag | None = None,
) -> Response:
    """List an organization's voucher types, newest first."""
    body = await service.list_voucher_types(
        reader, actor, page, organization_id, is_active=is_active
    )
    return json_response(response, body)


@organization.post("", status_code=201, responses=responses(Forbidden, ServiceUnavailable))
async def create_voucher_type(
    body: VoucherTypeCreate,
    organization: ManagedOrganizationDep,
    actor: ActorDep,
    session: SessionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Put a new voucher type on sale."""
    voucher_type = await service.create(session, actor, organization, body)
    return _tagged(response, voucher_type)


@organization.get(
    "/{voucher_type_id}", response_model=VoucherTypeRead, responses=responses(VoucherTypeNotFound)
)
async def get_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> Response:
    """Show a voucher type."""
    document = await service.get_voucher_type(reader, actor, organization_id, voucher_type_id)
    return json_response(response, document.body, version=document.facts.version)


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
    """Change the fields that are sent; sold vouchers keep their terms."""
    voucher_type = await service.update(
        session, actor, organization_id, voucher_type_id, body.changes(), precondition
    )
    return _tagged(response, voucher_type)


@organization.put("/{voucher_type_id}/deactivate", responses=_CHANGE)
async def deactivate_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Take a voucher type off sale at once; sold vouchers stay valid."""
    voucher_type = await service.deactivate(
        session, actor, organization_id, voucher_type_id, precondition
    )
    return _tagged(response, voucher_type)


@organization.put("/{voucher_type_id}/activate", responses=_CHANGE)
async def activate_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> VoucherTypeRead:
    """Put a voucher type on sale again."""
    voucher_type = await service.activate(
        session, actor, organization_id, voucher_type_id, precondition
    )
    return _tagged(response, voucher_type)


@organization.delete("/{voucher_type_id}", responses=_CHANGE)
async def delete_voucher_type(
    organization_id: Id,
    voucher_type_id: Id,
    actor: ActorDep,
    session: SessionDep,
    precondition: PreconditionDep,
) -> dict[str, str]:
    """Delete a voucher type that was never sold; take any other off sale for good."""
    await service.delete(session, actor, organization_id, voucher_type_id, precondition)
    return {"message": "Voucher type deleted successfully"}
