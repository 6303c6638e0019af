"""The calls to payments: charge a voucher, close its payment, read what was paid, refund."""

from decimal import Decimal
from typing import Any

import structlog

from services.vouchers.errors import VoucherPaid
from services.vouchers.models import ClientCopy, OrganizationCopy, RefundQuote, Voucher
from services.vouchers.schemas.vouchers import NextAction, PaymentRead
from shared.clients import ServiceClients
from shared.context import Origin
from shared.errors import ServiceUnavailable
from shared.fields import EventTime, ServiceData
from shared.money import Amount

log = structlog.get_logger(__name__)

CARD_TOKEN_UNKNOWN = "card_token_unknown"  # noqa: S105
"""The failure's code when there is no card that could be declined."""


class Action(ServiceData):
    """What the payer must do, as payments answers."""

    type: str
    redirect_url: str | None = None
    client_secret: str | None = None


class Failure(ServiceData):
    """Why a payment failed, in the card gateway's words."""

    code: str | None = None
    message: str | None = None


class Charge(ServiceData):
    """How a payment stands, as payments answers."""

    transaction_id: int
    status: str
    next_action: Action | None = None
    failure: Failure | None = None
    invoice_number: str | None = None
    completed_at: EventTime | None = None

    def shown(self) -> PaymentRead:
        """Return what the buyer is told."""
        action = self.next_action
        shown = NextAction(**action.model_dump()) if action else None
        return PaymentRead(
            transaction_id=self.transaction_id, status=self.status, next_action=shown
        )


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


class ChargeRefused(Exception):
    """Payments does not accept the order: a field of the buyer's is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field)
        self.field, self.message = field, message


def buyer_of(client: ClientCopy) -> dict[str, Any]:
    """Return what an invoice says of its payer."""
    return {"name": client.name or f"Client {client.id}", "email": client.email}


def seller_of(organization: OrganizationCopy) -> dict[str, Any]:
    """Return what an invoice says of its issuer."""
    names = (
        "name",
        "slug",
        "address",
        "tax_id",
        "timezone",
        "email",
        "phone",
        "logo_url",
    )
    return {name: getattr(organization, name) for name in names}


def order_of(
    voucher: Voucher, buyer: dict[str, Any], seller: dict[str, Any], payment_token: str | None
) -> dict[str, Any]:
    """Return the order that payments is given."""
    return {
        "voucher_id": voucher.id,
        "organization_id": voucher.organization_id,
        "client_id": voucher.client_id,
        "amount": voucher.payment_amount or Decimal("0.00"),
        "currency": voucher.currency,
        "payment_method": voucher.payment_method,
        "payment_token": payment_token,
        "description": voucher.name,
        "buyer": buyer,
        "seller": seller,
    }


async def close(clients: ServiceClients, origin: Origin, voucher_id: int) -> None:
    """Let no money by hand come any more for a voucher that is about to be cancelled.

    Payments decides, under the payment's lock, whether the money or the cancellation comes first.
    Raises VoucherPaid when the money did, and ServiceUnavailable when payments does not answer.
    """
    path = f"/internal/vouchers/{voucher_id}/payment/close"
    answer = await clients.request("payments", "POST", path, origin)
    if answer.status_code == 409:
        raise VoucherPaid
    if answer.status_code != 204:
        log.error("close_refused", status=answer.status_code, voucher_id=voucher_id)
        raise ServiceUnavailable("The payments service could not close the payment.")


async def charge(clients: ServiceClients, origin: Origin, order: dict[str, Any]) -> Charge:
    """Charge a voucher, or learn how its charge stands.

    Raises ChargeRefused, and ServiceUnavailable when payments does not answer; the charge may have
    happened then, and the same call tells.
    """
    answer = await clients.request("payments", "POST", "/internal/charges", origin, json=order)
    if answer.status_code == 422:
        error = answer.json()["errors"][0]
        raise ChargeRefused(error["field"], error["message"])
    if answer.status_code != 200:
        log.error("charge_refused", status=answer.status_code, voucher_id=order["voucher_id"])
        raise ServiceUnavailable("The payments service refused the charge.")
    return Charge.model_validate_json(answer.content)


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
