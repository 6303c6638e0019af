"""Routes of vouchers."""

from typing import Annotated, Any

from fastapi import Query, Response

from services.vouchers.endpoints.dependencies import AccountModeDep
from services.vouchers.errors import (
    BOOKING_REFUSALS,
    CardsNotAvailable,
    CardTokenUnknown,
    ClientInactive,
    ClientNotFound,
    OrganizationInactive,
    OrganizationNotFound,
    PaymentDeclined,
    SessionNotFound,
    StartOffGrid,
    TooManyHolds,
    VoucherCancelled,
    VoucherNotCancellable,
    VoucherNotFound,
    VoucherPaid,
    VoucherTypeChanged,
    VoucherTypeNotFound,
    VoucherTypeNotSold,
)
from services.vouchers.models import Voucher, VoucherStatus
from services.vouchers.queries import Codes, VoucherFilters
from services.vouchers.schemas.vouchers import (
    Cancellation,
    CodeRead,
    MyVoucher,
    OrganizationVoucher,
    PaymentRead,
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
    AppError,
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, Name, QueryId
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import ClaimingWorkDep, ClientsDep, ReaderDep, SessionDep, WorkDep

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

_SALE: tuple[type[AppError], ...] = (
    PaymentDeclined,
    CardTokenUnknown,
    CardsNotAvailable,
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
_WITH_SESSION: tuple[type[AppError], ...] = (
    SessionNotFound,
    StartOffGrid,
    TooManyHolds,
    *BOOKING_REFUSALS,
)
_PURCHASE = responses(*dict.fromkeys((*_SALE, *_WITH_SESSION)))


def _fields(voucher: Voucher) -> dict[str, Any]:
    return {name: getattr(voucher, name) for name in VoucherRead.model_fields}


def _codes(codes: Codes) -> list[CodeRead]:
    return [CodeRead(**code) for code in codes]


def _detail(response: Response, result: service.VoucherWithCodes) -> VoucherDetail:
    set_etag(response, result.voucher.version)
    return VoucherDetail(**_fields(result.voucher), codes=_codes(result.codes))


def _purchase(sale: purchase.Sale) -> VoucherPurchased:
    return VoucherPurchased(
        **_fields(sale.voucher),
        codes=_codes(sale.codes),
        payment=PaymentRead.model_validate(sale.charge),
        reservation=sale.reservation,
    )


@vouchers.post("/purchase", status_code=201, responses=_PURCHASE)
async def purchase_voucher(
    body: PurchaseCreate,
    actor: ActorDep,
    work: ClaimingWorkDep,
    clients: ClientsDep,
    accounts: AccountModeDep,
) -> VoucherPurchased:
    """Buy a voucher. If it is paid at once it is active and has its codes; otherwise it is pending,
    and `payment` states what the payer must do. A session may be ordered with it: it is held, and
    booked when the voucher is paid."""
    return _purchase(await purchase.buy(work, actor, clients, accounts, body))


@vouchers.get("/my")
async def list_my_vouchers(
    session: SessionDep, actor: ActorDep, page: PageDep, status: VoucherStatus | None = None
) -> list[MyVoucher]:
    """List your own vouchers and those of your dependants, newest first, with the days of the last
    and the next session."""
    return await service.list_my_vouchers(session, actor, page, status)


@vouchers.get("/{voucher_id}", response_model=VoucherDetail, responses=responses(VoucherNotFound))
async def get_voucher(
    voucher_id: Id, reader: ReaderDep, actor: ActorDep, response: TaggedResponse
) -> Response:
    """Show a voucher with its codes."""
    document = await service.show_voucher(reader, actor, voucher_id)
    return json_response(response, document.body, version=document.facts.version)


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
    result = await service.update(session, actor, voucher_id, body.model_dump(), precondition)
    return _detail(response, result)


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
    """Cancel a voucher. Its client may do so until it is paid, managers while it is active."""
    reason = body.reason if body else None
    return _detail(response, await service.cancel(work, actor, clients, voucher_id, reason))


@organization.get("", response_model=list[OrganizationVoucher])
async def list_vouchers(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    client_id: Annotated[QueryId | None, Query()] = None,
    status: VoucherStatus | None = None,
    voucher_type_id: Annotated[QueryId | None, Query(alias="type")] = None,
    code: Annotated[Name | None, Query(description="One of the voucher's codes")] = None,
    q: Annotated[Name | None, Query(description="A part of the client's name or a code")] = None,
) -> Response:
    """List an organization's vouchers, newest first. Therapists must name a code."""
    filters = VoucherFilters(client_id, status, voucher_type_id, code, text=q)
    body = await service.list_vouchers(reader, actor, page, organization_id, filters)
    return json_response(response, body)


@organization.post("", status_code=201, responses=responses(*_SALE))
async def issue_voucher(
    organization_id: Id,
    body: VoucherIssue,
    actor: ActorDep,
    work: ClaimingWorkDep,
    clients: ClientsDep,
    accounts: AccountModeDep,
) -> VoucherPurchased:
    """Issue a voucher to a client, who pays in cash or by transfer; pending until it is paid."""
    sale = await purchase.issue(work, actor, clients, accounts, organization_id, body)
    return _purchase(sale)
