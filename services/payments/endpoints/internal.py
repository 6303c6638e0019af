"""What other services of Carnet may ask; never routed by the gateway."""

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.endpoints.views import charge_read
from services.payments.errors import PaymentNotFound
from services.payments.gateways.minor_units import smallest_unit
from services.payments.schemas import (
    ChargeCreate,
    ChargeRead,
    PaymentState,
    QuotedRefund,
    QuotedRefundRead,
)
from services.payments.service import payments, refunds
from services.payments.service.charges import Cashier
from services.payments.service.refund_attempts import RefundDesk
from shared.auth import called_by
from shared.fields import Id
from shared.routing import router
from shared.sessions import InternalSessionDep, InternalWorkDep

internal = router(prefix="/internal", include_in_schema=False)


@internal.post("/charges", dependencies=[called_by("vouchers")])
async def charge(body: ChargeCreate, work: InternalWorkDep, request: Request) -> ChargeRead:
    """Charge a voucher: once, however often this is called."""
    cashier = Cashier(work.begin, request.app.state.gateways)
    payment_id = await cashier.charge(body)
    async with work.begin() as session:
        return await _read(session, payment_id)


@internal.get("/vouchers/{voucher_id}/payment", dependencies=[called_by("vouchers")])
async def get_payment_state(voucher_id: Id, session: InternalSessionDep) -> PaymentState:
    """Say how much of a voucher's payment is there to be given back; 404 when it has none.

    A pure read of one instant: it waits for nobody and keeps nobody waiting. What is promised a
    moment later is refused when the money is to go.
    """
    balance = await queries.find_balance_of_voucher(session, voucher_id)
    if balance is None:
        raise PaymentNotFound
    payment = balance.payment
    return PaymentState(
        transaction_id=payment.id,
        currency=payment.currency,
        captured_amount=payment.captured_amount,
        refunded_amount=payment.refunded_amount,
        refundable_amount=balance.refundable,
        pending_amount=balance.pending,
        unit=smallest_unit(payment.currency),
    )


@internal.post(
    "/vouchers/{voucher_id}/payment/close", status_code=204, dependencies=[called_by("vouchers")]
)
async def close_payment(voucher_id: Id, session: InternalSessionDep) -> None:
    """Let no money by hand come any more for a voucher that is about to be cancelled.

    409 `payment_made` when it came already. Safe to repeat.
    """
    await payments.close_by_hand(session, voucher_id)


@internal.post("/refunds", dependencies=[called_by("vouchers")])
async def refund(body: QuotedRefund, work: InternalWorkDep, request: Request) -> QuotedRefundRead:
    """Give back what a quote says: once, however often this is called."""
    async with work.begin() as session:
        refund_id = (await refunds.promise_quoted(session, body)).id
    await RefundDesk(work.begin, request.app.state.gateways).carry_on(refund_id)
    async with work.begin() as session:
        made = await queries.get_refund(session, refund_id)
        payment = await queries.get_payment(session, made.transaction_id)
        return QuotedRefundRead(
            id=made.id,
            status=made.status,
            amount=made.amount,
            refunded_amount=payment.refunded_amount,
            failure_message=made.failure_message,
        )


async def _read(session: AsyncSession, payment_id: int) -> ChargeRead:
    payment, number = await queries.get_payment_with_number(session, payment_id)
    return charge_read(payment, number)
