"""Routes of a payment, for its payer and for staff."""

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.endpoints.views import payment_read
from services.payments.errors import FirstCardUnderWay, PaymentNotFound, PaymentNotPending
from services.payments.schemas import PaymentConfirm, PaymentRead
from services.payments.service import charges, payments
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

routes = router(
    prefix="/api/payments",
    tags=["payments"],
    responses=responses(Unauthenticated, Invalid),
)


@routes.get("/my")
async def list_my_payments(
    session: SessionDep, actor: ActorDep, page: PageDep
) -> list[PaymentRead]:
    """List one's own payments, newest first."""
    return [payment_read(view) for view in await payments.list_own(session, actor, page)]


@routes.get("/{payment_id}", responses=responses(PaymentNotFound))
async def get_payment(payment_id: Id, session: SessionDep, actor: ActorDep) -> PaymentRead:
    """Show a payment to its payer and to who may view the organization's payments."""
    return payment_read(await payments.get_payment(session, actor, payment_id))


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
