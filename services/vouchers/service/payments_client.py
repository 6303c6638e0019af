"""The calls to payments: charge a voucher, close its payment, read what was paid, refund."""

from decimal import Decimal
from typing import Any

import structlog

from services.vouchers.errors import VoucherPaid
from services.vouchers.models import ClientCopy, OrganizationCopy, RefundQuote, Voucher
from shared.clients import ServiceClients
from shared.context import Origin
from shared.errors import ServiceUnavailable
from shared.fields import EventTime, ServiceData
from shared.money import Amount

log = structlog.get_logger(__name__)

CARD_TOKEN_UNKNOWN = "card_token_unknown"  # noqa: S105
"""The failure's code when the token names no card, so that no card was declined."""

CARDS_NOT_AVAILABLE = "cards_not_available"
"""The failure's code when the organization has no account that may charge: nothing was charged."""


class ChargeAction(ServiceData):
    """What the payer must do before the charge can succeed."""

    type: str
    redirect_url: str | None = None
    client_secret: str | None = None


class ChargeFailure(ServiceData):
    """Why a charge failed, in the words of the card gateway."""

    code: str | None = None
    message: str | None = None


class Charge(ServiceData):
    """The state of a voucher's payment after a charge."""

    transaction_id: int
    status: str
    next_action: ChargeAction | None = None
    failure: ChargeFailure | None = None
    invoice_number: str | None = None
    completed_at: EventTime | None = None


class PaymentState(ServiceData):
    """How much of a voucher's payment can be refunded.

    `refundable_amount` was captured and is neither refunded nor promised nor disputed;
    `pending_amount` is promised; `unit` is the smallest amount of the currency that can be
    refunded.
    """

    transaction_id: int
    currency: str
    captured_amount: Amount
    refunded_amount: Amount
    refundable_amount: Amount
    pending_amount: Amount
    unit: Amount


class RefundState(ServiceData):
    """The state of a refund; `refunded_amount` is the total of all refunds of the payment."""

    id: int
    status: str
    amount: Amount
    refunded_amount: Amount
    failure_message: str | None = None


class ChargeRefused(Exception):
    """Payments refuses the charge: the value of `field` is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field)
        self.field, self.message = field, message


def buyer_of(payer: ClientCopy) -> dict[str, Any]:
    """Return what an invoice states about its payer."""
    return {"name": payer.name or f"Client {payer.id}", "email": payer.email}


def seller_of(organization: OrganizationCopy) -> dict[str, Any]:
    """Return what an invoice states about its issuer."""
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


async def charge(
    clients: ServiceClients,
    origin: Origin,
    voucher: Voucher,
    organization: OrganizationCopy,
    payer: ClientCopy,
    payment_token: str | None,
    *,
    is_first: bool,
) -> Charge:
    """Charge a voucher, or return the state of its earlier charge: it is charged once.

    `payer` is the voucher's client or, if that is a dependant, the guardian: the payment is theirs.
    `is_first` states that no charge of the voucher was requested before: payments need not look for
    one. It decides in any case.

    Raises ChargeRefused, and ServiceUnavailable when payments does not answer; the charge may have
    happened then, and a repeated call returns its state.
    """
    body = {
        "voucher_id": voucher.id,
        "organization_id": voucher.organization_id,
        "client_id": payer.id,
        "amount": voucher.payment_amount or Decimal("0.00"),
        "currency": voucher.currency,
        "payment_method": voucher.payment_method,
        "payment_token": payment_token,
        "description": voucher.name,
        "buyer": buyer_of(payer),
        "seller": seller_of(organization),
        "first": is_first,
    }
    response = await clients.request("payments", "POST", "/internal/charges", origin, json=body)
    if response.status_code == 422:
        error = response.json()["errors"][0]
        raise ChargeRefused(error["field"], error["message"])
    if response.status_code != 200:
        log.error("charge_refused", status=response.status_code, voucher_id=voucher.id)
        raise ServiceUnavailable("The payments service refused the charge.")
    return Charge.model_validate_json(response.content)


async def close_payment(clients: ServiceClients, origin: Origin, voucher_id: int) -> None:
    """Close the payment of a voucher that is about to be cancelled: no money can be entered then.

    Payments decides, under the payment's lock, whether the money or the cancellation was first.
    Raises VoucherPaid if it was the money, and ServiceUnavailable when payments does not answer.
    """
    path = f"/internal/vouchers/{voucher_id}/payment/close"
    response = await clients.request("payments", "POST", path, origin)
    if response.status_code == 409:
        raise VoucherPaid
    if response.status_code != 204:
        log.error("close_refused", status=response.status_code, voucher_id=voucher_id)
        raise ServiceUnavailable("The payments service could not close the payment.")


async def find_payment(
    clients: ServiceClients, origin: Origin, voucher_id: int
) -> PaymentState | None:
    """Return the state of a voucher's payment, or None if it has none.

    Raises ServiceUnavailable.
    """
    path = f"/internal/vouchers/{voucher_id}/payment"
    response = await clients.request("payments", "GET", path, origin)
    if response.status_code == 404:
        return None
    if response.status_code != 200:
        raise ServiceUnavailable("The payments service could not answer.")
    return PaymentState.model_validate_json(response.content)


async def refund(clients: ServiceClients, origin: Origin, quote: RefundQuote) -> RefundState:
    """Refund the amount of a quote: once, however often this is called.

    Raises ServiceUnavailable.
    """
    body: dict[str, Any] = {
        "quote_id": quote.id,
        "transaction_id": quote.transaction_id,
        "amount": quote.amount,
        "currency": quote.currency,
        "reason": quote.reason,
    }
    response = await clients.request("payments", "POST", "/internal/refunds", origin, json=body)
    if response.status_code != 200:
        log.error("refund_refused", status=response.status_code, quote_id=quote.id)
        raise ServiceUnavailable("The payments service refused the refund.")
    return RefundState.model_validate_json(response.content)
