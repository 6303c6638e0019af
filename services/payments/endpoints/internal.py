"""Routes for other services of Carnet; the gateway does not route them."""

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.endpoints.views import charge_read, payment_state
from services.payments.schemas import (
    ChargeCreate,
    ChargeRead,
    PaymentState,
    QuotedRefund,
    QuotedRefundRead,
)
from services.payments.service import charges, payments, refund_attempts
from shared.auth import called_by
from shared.fields import Id
from shared.routing import router
from shared.sessions import InternalSessionDep, InternalWorkDep

routes = router(prefix="/internal", include_in_schema=False)


@routes.post("/charges", dependencies=[called_by("vouchers")])
async def charge(body: ChargeCreate, work: InternalWorkDep, gateways: GatewaysDep) -> ChargeRead:
    """Charge a voucher: once, however often this is called."""
    return charge_read(await charges.charge(work.begin, gateways, body))


@routes.get("/vouchers/{voucher_id}/payment", dependencies=[called_by("vouchers")])
async def get_payment_state(voucher_id: Id, session: InternalSessionDep) -> PaymentState:
    """Return how much of a voucher's payment can be given back; 404 when it has none.

    A read of one instant without locks. A refund that is created a moment later makes a refund of
    the same money fail.
    """
    return payment_state(await payments.get_balance(session, voucher_id))


@routes.post(
    "/vouchers/{voucher_id}/payment/close", status_code=204, dependencies=[called_by("vouchers")]
)
async def close_payment(voucher_id: Id, session: InternalSessionDep) -> None:
    """Forbid that staff mark a payment as paid whose voucher is about to be cancelled.

    409 `payment_made` when they have done so already. Safe to repeat.
    """
    await payments.close_by_hand(session, voucher_id)


@routes.post("/refunds", dependencies=[called_by("vouchers")])
async def refund(
    body: QuotedRefund, work: InternalWorkDep, gateways: GatewaysDep
) -> QuotedRefundRead:
    """Give back what a quote promises: once, however often this is called."""
    row, payment = await refund_attempts.refund_quote(work.begin, gateways, body)
    return QuotedRefundRead(
        id=row.id,
        status=row.status,
        amount=row.amount,
        refunded_amount=payment.refunded_amount,
        failure_message=row.failure_message,
    )
