"""Routes of an organization's payments: parse, call, return."""

from typing import Annotated

from fastapi import Query

from services.payments import policies, queries
from services.payments.endpoints.payments import GatewaysDep
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
from services.payments.models import DisputeStatus, Method, PaymentTransaction, RefundSource
from services.payments.schemas import (
    DisputeRead,
    PaymentMarkPaid,
    PaymentRead,
    RefundCreate,
    RefundRead,
    RepaymentRead,
    RepaymentSettle,
)
from services.payments.service import payments, refunds
from services.payments.service.refund_attempts import RefundDesk
from services.payments.states import RepaymentStatus, Status
from shared.actors import Actor
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id, Instant, QueryId
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

organization = router(
    prefix="/api/organizations/{organization_id}",
    tags=["payments"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


def require_view(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not look."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    if not policies.can_view_payments(actor, organization_id):
        raise Forbidden(f"needs the permission {policies.VIEW}")


def require_manage(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not act."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    if not policies.can_manage_payments(actor, organization_id):
        raise Forbidden(f"needs the permission {policies.MANAGE}")


def _of(organization_id: int, payment: PaymentTransaction) -> None:
    if payment.organization_id != organization_id:
        raise PaymentNotFound


@organization.get("/payments")
async def list_organization_payments(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    status: Status | None = None,
    method: Method | None = None,
    client_id: Annotated[QueryId | None, Query()] = None,
    since: Annotated[Instant | None, Query(alias="from")] = None,
    until: Annotated[Instant | None, Query(alias="to")] = None,
) -> list[PaymentRead]:
    """List an organization's payments made `from` until before `to`, newest first."""
    require_view(actor, organization_id)
    conditions = queries.within(
        organization_id,
        status=status,
        method=method,
        client_id=client_id,
        since=since,
        until=until,
    )
    rows = await queries.page_of_payments(session, page, *conditions)
    return [payment_read(payment, number, actor) for payment, number in rows]


@organization.post(
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
    """Note that the money came in cash or by transfer."""
    require_manage(actor, organization_id)
    payment = await queries.lock_payment(session, payment_id)
    _of(organization_id, payment)
    await payments.mark_paid(session, payment, body.note if body else None)
    paid, number = await queries.get_payment_with_number(session, payment_id)
    return payment_read(paid, number, actor)


@organization.post(
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
    require_manage(actor, organization_id)
    wanted = body or RefundCreate()
    desk = RefundDesk(work.begin, gateways)
    refund_id = work.claim.resource_id if work.claim else None
    if refund_id is None:
        async with work.begin() as session:
            payment = await queries.lock_payment(session, payment_id)
            _of(organization_id, payment)
            refund = await refunds.promise(
                session, payment, wanted.amount, source=RefundSource.STAFF, reason=wanted.reason
            )
            refund_id = refund.id
            if work.claim:
                await work.claim.attach(session, refund_id)
    await desk.carry_on(refund_id)
    async with work.begin() as session:
        return RefundRead.model_validate(await queries.get_refund(session, refund_id))


@organization.get("/payments/{payment_id}/refunds", responses=responses(PaymentNotFound))
async def list_refunds(
    organization_id: Id, payment_id: Id, session: SessionDep, actor: ActorDep
) -> list[RefundRead]:
    """List what was given back of a payment, oldest first."""
    require_view(actor, organization_id)
    _of(organization_id, await queries.get_payment(session, payment_id))
    return [RefundRead.model_validate(r) for r in await queries.refunds_of(session, payment_id)]


@organization.get("/payments/repayments")
async def list_repayments(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    status: RepaymentStatus | None = None,
) -> list[RepaymentRead]:
    """List the money that staff must give back by hand, or have given back, newest first."""
    require_view(actor, organization_id)
    rows = await queries.page_of_repayments(session, page, organization_id, status)
    return [RepaymentRead.model_validate(row) for row in rows]


@organization.post(
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
    """Note that money was given back by hand; the books and a credit note follow."""
    require_manage(actor, organization_id)
    text = body.note if body else None
    settled = await payments.settle_repayment(session, organization_id, repayment_id, text)
    return RepaymentRead.model_validate(settled)


@organization.get("/payments/disputes")
async def list_disputes(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    status: DisputeStatus | None = None,
) -> list[DisputeRead]:
    """List the disputes of an organization's payments, newest first."""
    require_view(actor, organization_id)
    rows = await queries.page_of_disputes(session, page, organization_id, status)
    return [DisputeRead.model_validate(row) for row in rows]
