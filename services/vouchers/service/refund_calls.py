"""The calls to payments about money that goes back: what is there, and give it back."""

from typing import Any

import structlog

from services.vouchers.models import RefundQuote
from shared.clients import ServiceClients
from shared.context import Origin
from shared.errors import ServiceUnavailable
from shared.fields import ServiceData
from shared.money import Amount

log = structlog.get_logger(__name__)


class PaymentState(ServiceData):
    """How much of a voucher's payment is there, as payments answers.

    `refundable_amount` was captured and neither given back nor promised nor disputed;
    `pending_amount` is promised; `unit` is the smallest amount of the currency that can be given
    back.
    """

    transaction_id: int
    currency: str
    captured_amount: Amount
    refunded_amount: Amount
    refundable_amount: Amount
    pending_amount: Amount
    unit: Amount


class RefundState(ServiceData):
    """How a refund stands, as payments answers; `refunded_amount` is what went back in all."""

    id: int
    status: str
    amount: Amount
    refunded_amount: Amount
    failure_message: str | None = None


async def find_payment(
    clients: ServiceClients, origin: Origin, voucher_id: int
) -> PaymentState | None:
    """Return how a voucher's payment stands, or None when it has none; raises
    ServiceUnavailable."""
    path = f"/internal/vouchers/{voucher_id}/payment"
    answer = await clients.request("payments", "GET", path, origin)
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise ServiceUnavailable("The payments service could not answer.")
    return PaymentState.model_validate_json(answer.content)


async def refund(clients: ServiceClients, origin: Origin, quote: RefundQuote) -> RefundState:
    """Give back what a quote says, once however often it is called; raises ServiceUnavailable."""
    order: dict[str, Any] = {
        "quote_id": quote.id,
        "transaction_id": quote.transaction_id,
        "amount": quote.amount,
        "currency": quote.currency,
        "reason": quote.reason,
    }
    answer = await clients.request("payments", "POST", "/internal/refunds", origin, json=order)
    if answer.status_code != 200:
        log.error("refund_refused", status=answer.status_code, quote_id=quote.id)
        raise ServiceUnavailable("The payments service refused the refund.")
    return RefundState.model_validate_json(answer.content)
