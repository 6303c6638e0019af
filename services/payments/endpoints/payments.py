"""Routes of a payment: parse, call, return."""

from typing import Annotated

from fastapi import Depends, Path, Request

from services.payments import queries
from services.payments.endpoints.views import payment_read
from services.payments.errors import (
    FirstCardUnderWay,
    GatewayNotFound,
    PaymentNotFound,
    PaymentNotPending,
    WebhookNotVerified,
)
from services.payments.gateways import Gateways
from services.payments.models import PaymentTransaction
from services.payments.policies import can_see, is_payer
from services.payments.schemas import PaymentConfirm, PaymentRead
from services.payments.service import webhooks
from services.payments.service.charges import Cashier
from shared.actors import Actor
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    Unauthenticated,
    responses,
)
from shared.fields import Id
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, UnclaimedWorkDep, WorkDep
from shared.tenancy import EVERYTHING
from shared.work import Work

payments = router(
    prefix="/api/payments",
    tags=["payments"],
    responses=responses(Unauthenticated, Invalid),
)
gateway_webhooks = router(signed=True, prefix="/api/payments/webhooks", tags=["payments"])


async def opened_gateways(request: Request) -> Gateways:
    """Return the payment gateways of this process."""
    gateways: Gateways = request.app.state.gateways
    return gateways


GatewayName = Annotated[str, Path(pattern="^[a-z]{1,50}$")]
GatewaysDep = Annotated[Gateways, Depends(opened_gateways)]


@payments.get("/my")
async def list_my_payments(
    session: SessionDep, actor: ActorDep, page: PageDep
) -> list[PaymentRead]:
    """List one's own payments, newest first."""
    own = PaymentTransaction.client_id == actor.user_id
    rows = await queries.page_of_payments(session, page, own)
    return [payment_read(payment, number, actor) for payment, number in rows]


@payments.get("/{payment_id}", responses=responses(PaymentNotFound))
async def get_payment(payment_id: Id, session: SessionDep, actor: ActorDep) -> PaymentRead:
    """Show a payment to its payer and to who may view the organization's payments."""
    payment, number = await queries.get_payment_with_number(session, payment_id)
    if not can_see(actor, payment):
        raise PaymentNotFound
    return payment_read(payment, number, actor)


@payments.post(
    "/{payment_id}/confirm",
    responses=responses(
        PaymentNotFound, Forbidden, PaymentNotPending, FirstCardUnderWay, ServiceUnavailable
    ),
)
async def confirm_payment(
    payment_id: Id, body: PaymentConfirm, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> PaymentRead:
    """Pay a pending payment with a token; after the bank's confirmation, see what it led to."""
    await _check_payer(work, actor, payment_id)
    cashier = Cashier(lambda: work.begin(EVERYTHING), gateways)
    await cashier.confirm(payment_id, body.payment_token)
    async with work.begin() as session:
        payment, number = await queries.get_payment_with_number(session, payment_id)
        return payment_read(payment, number, actor)


async def _check_payer(work: Work, actor: Actor, payment_id: int) -> None:
    async with work.begin() as session:
        payment = await queries.get_payment(session, payment_id)
    if not can_see(actor, payment):
        raise PaymentNotFound
    if not is_payer(actor, payment):
        raise Forbidden("the payer pays")


@gateway_webhooks.post(
    "/{gateway_name}",
    responses=responses(GatewayNotFound, WebhookNotVerified, Invalid, ServiceUnavailable),
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def receive_webhook(
    gateway_name: GatewayName, request: Request, work: UnclaimedWorkDep, gateways: GatewaysDep
) -> dict[str, str]:
    """Take a payment gateway's signed webhook: 200 once it is stored, 400 if it is not theirs."""
    gateway = gateways.online(gateway_name)
    if gateway is None:
        raise GatewayNotFound
    body = await request.body()
    notice = webhooks.verified(gateway, body, request.headers)
    # Few at a time: a thousand at once must not take the API's connections to the database.
    async with request.app.state.webhook_limit, work.begin(EVERYTHING) as session:
        new = await webhooks.store(session, gateway.name, notice, body)
    return {"status": "stored" if new else "known"}
