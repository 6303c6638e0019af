"""Routes of a payment, for its payer and for staff."""

from typing import Annotated

from fastapi import Query, Response

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.endpoints.views import payment_read
from services.payments.errors import (
    FirstCardUnderWay,
    OrganizationNotFound,
    PaymentNotFound,
    PaymentNotPending,
)
from services.payments.schemas import PaymentConfirm, PaymentMethodRead, PaymentRead
from services.payments.service import charges, payment_methods, payments
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id, QueryId
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep, WorkDep

routes = router(
    prefix="/api/payments",
    tags=["payments"],
    responses=responses(Unauthenticated, Invalid),
)


@routes.get("/my", response_model=list[PaymentRead])
async def list_my_payments(
    reader: ReaderDep, actor: ActorDep, page: PageDep, response: Response
) -> Response:
    """List one's own payments, newest first."""
    return json_response(response, await payments.list_own(reader, actor, page))


@routes.get("/methods", responses=responses(OrganizationNotFound))
async def list_methods(
    session: SessionDep,
    actor: ActorDep,
    gateways: GatewaysDep,
    organization_id: Annotated[QueryId, Query()],
) -> list[PaymentMethodRead]:
    """List the methods of payment of one's organization, with what a card form needs."""
    methods = await payment_methods.list_methods(session, actor, gateways, organization_id)
    return [PaymentMethodRead.model_validate(method) for method in methods]


@routes.get("/{payment_id}", response_model=PaymentRead, responses=responses(PaymentNotFound))
async def get_payment(
    payment_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """Show a payment to its payer and to who may view the organization's payments."""
    document = await payments.get_payment(reader, actor, payment_id)
    return json_response(response, document.body)


@routes.post(
    "/{payment_id}/confirm",
    responses=responses(
        PaymentNotFound, Forbidden, PaymentNotPending, FirstCardUnderWay, ServiceUnavailable
    ),
)
async def confirm_payment(
    payment_id: Id, body: PaymentConfirm, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> PaymentRead:
    """Pay a pending payment with a token; after the bank's confirmation, see what it led to."""
    return payment_read(
        await charges.confirm(work, actor, gateways, payment_id, body.payment_token)
    )
