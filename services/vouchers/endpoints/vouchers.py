"""Routes of vouchers: parse, call, return."""

from typing import Annotated, Any

from fastapi import Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.endpoints.dependencies import ClientsDep, MemberOrganizationDep
from services.vouchers.errors import (
    CardTokenUnknown,
    ClientInactive,
    ClientNotFound,
    OrganizationInactive,
    OrganizationNotFound,
    PaymentDeclined,
    VoucherCancelled,
    VoucherNotCancellable,
    VoucherNotFound,
    VoucherPaid,
    VoucherTypeChanged,
    VoucherTypeNotFound,
    VoucherTypeNotSold,
)
from services.vouchers.models import Voucher, VoucherStatus
from services.vouchers.schemas.vouchers import (
    Cancellation,
    CodeRead,
    MyVoucher,
    OrganizationVoucher,
    PurchaseCreate,
    VoucherDetail,
    VoucherIssue,
    VoucherPurchased,
    VoucherRead,
    VoucherUpdate,
)
from services.vouchers.service import purchase
from services.vouchers.service import vouchers as service
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, Name, QueryId
from shared.paging import PageDep, listed
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

vouchers = router(
    prefix="/api/vouchers",
    tags=["vouchers"],
    responses=responses(Unauthenticated, Invalid),
)
organization = router(
    prefix="/api/organizations/{organization_id}/vouchers",
    tags=["vouchers"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)

_PURCHASE = responses(
    PaymentDeclined,
    CardTokenUnknown,
    Forbidden,
    VoucherTypeNotFound,
    ClientNotFound,
    VoucherTypeNotSold,
    VoucherTypeChanged,
    OrganizationInactive,
    ClientInactive,
    VoucherCancelled,
    ServiceUnavailable,
)


async def _shown(session: AsyncSession, response: Response, voucher: Voucher) -> VoucherDetail:
    set_etag(response, voucher.version)
    codes = await queries.codes_of(session, voucher)
    return VoucherDetail(**_fields(voucher), codes=listed(CodeRead, codes))


def _fields(voucher: Voucher) -> dict[str, Any]:
    return {name: getattr(voucher, name) for name in VoucherRead.model_fields}


def _sold(sale: purchase.Sale) -> VoucherPurchased:
    return VoucherPurchased(
        **_fields(sale.voucher),
        codes=listed(CodeRead, sale.codes),
        payment=sale.charge.shown(),
    )


@vouchers.post("/purchase", status_code=201, responses=_PURCHASE)
async def purchase_voucher(
    body: PurchaseCreate, actor: ActorDep, work: WorkDep, clients: ClientsDep
) -> VoucherPurchased:
    """Buy a voucher. Paid at once it is active and has its codes; otherwise it is pending, and
    `payment` says what the payer must do."""
    if not policies.can_buy(actor):
        raise Forbidden("clients buy vouchers; staff issue them to a client")
    client_id = body.client_id or actor.user_id
    if client_id != actor.user_id and not actor.is_admin:
        raise Forbidden("a client buys for itself")
    token = body.payment_token.get_secret_value() if body.payment_token else None
    order = purchase.Order(
        body.voucher_type_id,
        client_id,
        body.payment_method.value,
        token,
        body.notes,
        type_version=body.voucher_type_version,
    )
    return _sold(await purchase.buy(work, clients, actor, order, None))


@vouchers.get("/my")
async def list_my_vouchers(
    session: SessionDep, actor: ActorDep, page: PageDep, status: VoucherStatus | None = None
) -> list[MyVoucher]:
    """List one's own vouchers, newest first, with the days of the last and the next session."""
    rows = await queries.page_of_own_vouchers(session, page, actor.user_id, status=status)
    return await service.with_days(session, rows)


@vouchers.get("/{voucher_id}", responses=responses(VoucherNotFound))
async def get_voucher(
    voucher_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> VoucherDetail:
    """Show a voucher with its codes."""
    return await _shown(session, response, await service.readable(session, actor, voucher_id))


@vouchers.put("/{voucher_id}", responses=responses(VoucherNotFound, Forbidden, StaleVersion))
async def update_voucher(
    voucher_id: Id,
    body: VoucherUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> VoucherDetail:
    """Change a voucher's notes."""
    changed = await service.update(session, actor, voucher_id, body.model_dump(), precondition)
    return await _shown(session, response, changed)


@vouchers.post(
    "/{voucher_id}/cancel",
    responses=responses(
        VoucherNotFound, Forbidden, VoucherNotCancellable, VoucherPaid, ServiceUnavailable
    ),
)
async def cancel_voucher(
    voucher_id: Id,
    work: WorkDep,
    clients: ClientsDep,
    actor: ActorDep,
    response: TaggedResponse,
    body: Cancellation | None = None,
) -> VoucherDetail:
    """Cancel a voucher: its client until it is paid, its managers until it is used up."""
    reason = body.reason if body else None
    cancelled = await service.cancel(work, clients, actor, voucher_id, reason)
    set_etag(response, cancelled.voucher.version)
    codes = listed(CodeRead, cancelled.codes)
    return VoucherDetail(**_fields(cancelled.voucher), codes=codes)


@organization.get("")
async def list_vouchers(
    organization_id: MemberOrganizationDep,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    client_id: Annotated[QueryId | None, Query()] = None,
    status: VoucherStatus | None = None,
    voucher_type_id: Annotated[QueryId | None, Query(alias="type")] = None,
    code: Annotated[Name | None, Query(description="One of the voucher's codes")] = None,
    q: Annotated[Name | None, Query(description="A part of the client's name or a code")] = None,
) -> list[OrganizationVoucher]:
    """List an organization's vouchers, newest first. Therapists may look one up by its code."""
    if not policies.can_list(actor, organization_id, by_code=code is not None):
        raise Forbidden(f"needs the permission {policies.MANAGE_VOUCHERS}")
    rows = await queries.page_of_vouchers(
        session,
        page,
        organization_id,
        client_id=client_id,
        status=status,
        voucher_type_id=voucher_type_id,
        code=code,
        text=q,
    )
    return listed(OrganizationVoucher, rows)


@organization.post("", status_code=201, responses=_PURCHASE)
async def issue_voucher(
    organization_id: MemberOrganizationDep,
    body: VoucherIssue,
    actor: ActorDep,
    work: WorkDep,
    clients: ClientsDep,
) -> VoucherPurchased:
    """Issue a voucher to a client, who pays in cash or by transfer; pending until it is paid."""
    actor.require(policies.MANAGE_VOUCHERS, organization_id)
    order = purchase.Order(
        body.voucher_type_id,
        body.client_id,
        body.payment_method.value,
        notes=body.notes,
        members_only=True,
    )
    return _sold(await purchase.buy(work, clients, actor, order, organization_id))
