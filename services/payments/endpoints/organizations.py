"""Routes of an organization's payments, refunds, repayments and disputes."""

from typing import Annotated

from fastapi import Query, Response

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.endpoints.views import payment_read
from services.payments.errors import (
    NotPaidByHand,
    OrganizationNotFound,
    PaymentDisputed,
    PaymentNotFound,
    PaymentNotPaid,
    PaymentNotPending,
    RefundExceedsPayment,
    RepaymentNotFound,
    RepaymentSettled,
)
from services.payments.models import DisputeStatus, Method, RepaymentStatus, Status
from services.payments.queries import PaymentFilter
from services.payments.schemas import (
    DisputeRead,
    PaymentMarkPaid,
    PaymentRead,
    RefundCreate,
    RefundRead,
    RepaymentRead,
    RepaymentSettle,
)
from services.payments.service import disputes, payments, refund_attempts, refunds, repayments
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id, Instant, QueryId
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep, WorkDep

routes = router(
    prefix="/api/organizations/{organization_id}",
    tags=["payments"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


@routes.get("/payments", response_model=list[PaymentRead])
async def list_organization_payments(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    status: Status | None = None,
    method: Method | None = None,
    client_id: Annotated[QueryId | None, Query()] = None,
    since: Annotated[Instant | None, Query(alias="from")] = None,
    until: Annotated[Instant | None, Query(alias="to")] = None,
) -> Response:
    """List an organization's payments made `from` until before `to`, newest first."""
    only = PaymentFilter(status, method, client_id, since, until)
    body = await payments.list_of_organization(reader, actor, organization_id, page, only)
    return json_response(response, body)


@routes.post(
    "/payments/{payment_id}/mark-paid",
    responses=responses(PaymentNotFound, PaymentNotPending, NotPaidByHand),
)
async def mark_paid(
    organization_id: Id,
    payment_id: Id,
    session: SessionDep,
    actor: ActorDep,
    body: PaymentMarkPaid | None = None,
) -> PaymentRead:
    """Record that the money came in cash or by transfer."""
    note = body.note if body else None
    return payment_read(await payments.mark_paid(session, actor, organization_id, payment_id, note))


@routes.post(
    "/payments/{payment_id}/refunds",
    status_code=201,
    responses=responses(PaymentNotFound, PaymentNotPaid, RefundExceedsPayment, PaymentDisputed),
)
async def refund_payment(
    organization_id: Id,
    payment_id: Id,
    work: WorkDep,
    actor: ActorDep,
    gateways: GatewaysDep,
    body: RefundCreate | None = None,
) -> RefundRead:
    """Give a payment back, in full or in part; never more than was paid."""
    body = body or RefundCreate()
    refund = await refund_attempts.refund_payment(
        work, actor, gateways, organization_id, payment_id, body.amount, body.reason
    )
    return RefundRead.model_validate(refund)


@routes.get(
    "/payments/{payment_id}/refunds",
    response_model=list[RefundRead],
    responses=responses(PaymentNotFound),
)
async def list_refunds(
    organization_id: Id, payment_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """List what was given back of a payment, oldest first."""
    body = await refunds.list_refunds(reader, actor, organization_id, payment_id)
    return json_response(response, body)


@routes.get("/payments/repayments", response_model=list[RepaymentRead])
async def list_repayments(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    status: RepaymentStatus | None = None,
) -> Response:
    """List the money that staff must give back by hand, or have given back, newest first."""
    body = await repayments.list_repayments(reader, actor, organization_id, page, status)
    return json_response(response, body)


@routes.post(
    "/payments/repayments/{repayment_id}/settle",
    responses=responses(RepaymentNotFound, RepaymentSettled, RefundExceedsPayment, PaymentDisputed),
)
async def settle_repayment(
    organization_id: Id,
    repayment_id: Id,
    session: SessionDep,
    actor: ActorDep,
    body: RepaymentSettle | None = None,
) -> RepaymentRead:
    """Record that money was given back by hand; the books and a credit note follow."""
    note = body.note if body else None
    repayment = await refunds.settle_repayment(session, actor, organization_id, repayment_id, note)
    return RepaymentRead.model_validate(repayment)


@routes.get("/payments/disputes", response_model=list[DisputeRead])
async def list_disputes(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    status: DisputeStatus | None = None,
) -> Response:
    """List the disputes of an organization's payments, newest first."""
    body = await disputes.list_disputes(reader, actor, organization_id, page, status)
    return json_response(response, body)
