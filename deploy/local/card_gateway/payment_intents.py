"""Payment intents: https://docs.stripe.com/api/payment_intents.

The parameters and the life of an intent; `payment_attempts.py` charges the card.
"""

from typing import Any, Literal

from pydantic import Field

from deploy.local.card_gateway.accounts import require_charges, require_currency
from deploy.local.card_gateway.call import APPLICATION, Call
from deploy.local.card_gateway.errors import invalid, unexpected_state
from deploy.local.card_gateway.intents import new_client_secret, require_secret
from deploy.local.card_gateway.parameters import (
    Currency,
    Fields,
    ListParameters,
    Metadata,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.payment_attempts import PaymentAttempt, attempt_payment
from deploy.local.card_gateway.payment_methods import find_usable
from deploy.local.card_gateway.store import Resource

# https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
_SMALLEST = {
    **{"aed": 200, "bgn": 100, "czk": 1500, "dkk": 250, "gbp": 30, "hkd": 400, "huf": 17500},
    **{"jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "pln": 200, "ron": 200, "sek": 300},
    **{"thb": 1000},
}
_SMALLEST_OF_OTHERS = 50
_LARGEST = 99_999_999
_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
_STATUSES = ", ".join(_OPEN)


class AutomaticMethods(Fields):
    """Payment methods of the account's settings: here always cards alone."""

    enabled: bool
    allow_redirects: Literal["always", "never"] = "always"


class Confirmation(PaymentAttempt):
    """POST /v1/payment_intents/{id}/confirm."""

    client_secret: str | None = None


class PaymentIntentCreate(PaymentAttempt):
    """POST /v1/payment_intents."""

    amount: int = Field(ge=1)
    application_fee_amount: int | None = Field(default=None, ge=0)
    automatic_payment_methods: AutomaticMethods | None = None
    capture_method: Literal["automatic", "automatic_async"] = "automatic_async"
    confirm: bool = False
    currency: Currency
    customer: str | None = None
    description: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    payment_method_types: list[Literal["card"]] = Field(default=["card"])
    receipt_email: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None


class PaymentIntentUpdate(Parameters):
    """POST /v1/payment_intents/{id}."""

    amount: int | None = Field(default=None, ge=1)
    application_fee_amount: int | None = Field(default=None, ge=0)
    description: str | None = None
    metadata: MetadataChange | None = None
    payment_method: str | None = None
    receipt_email: str | None = None


class Cancellation(Parameters):
    """POST /v1/payment_intents/{id}/cancel."""

    cancellation_reason: (
        Literal["abandoned", "duplicate", "fraudulent", "requested_by_customer"] | None
    ) = None


class Retrieval(Parameters):
    """GET /v1/payment_intents/{id}."""

    client_secret: str | None = None


class PaymentIntentList(ListParameters):
    """GET /v1/payment_intents."""

    customer: str | None = None


def create(call: Call, body: PaymentIntentCreate, _: str) -> Resource:
    """Create an intent, and confirm it if `confirm` is true."""
    require_charges(call)
    require_currency(call, body.currency)
    _require_amounts(call, body.amount, body.currency, body.application_fee_amount)
    if body.customer:
        call.get("customer", body.customer, "customer")
    method = find_usable(call, body.payment_method) if body.payment_method else None
    intent = call.create("pi", "payment_intent", _fields(call, body, method))
    call.save(intent, client_secret=new_client_secret(intent["id"]))
    call.emit("payment_intent.created", intent)
    if body.confirm:
        attempt_payment(call, intent, body)
    return intent


def _fields(call: Call, body: PaymentIntentCreate, method: Resource | None) -> dict[str, Any]:
    names = {
        *("amount", "application_fee_amount", "automatic_payment_methods", "capture_method"),
        *("currency", "customer", "description", "metadata", "payment_method_types"),
        *("receipt_email", "setup_future_usage", "statement_descriptor"),
        "statement_descriptor_suffix",
    }
    nothing = (
        *("canceled_at", "cancellation_reason", "last_payment_error", "latest_charge"),
        *("next_action", "on_behalf_of", "processing", "review", "shipping", "source"),
        *("transfer_data", "transfer_group"),
    )
    return {
        **dict.fromkeys(nothing),
        **body.model_dump(include=names),
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None if call.is_platform else APPLICATION,
        "confirmation_method": "automatic",
        "payment_method": method["id"] if method else None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "status": "requires_confirmation" if method else "requires_payment_method",
    }


def _require_amounts(call: Call, amount: int, currency: str, fee: int | None) -> None:
    if amount < _SMALLEST.get(currency, _SMALLEST_OF_OTHERS):
        message = "Amount must be no less than the smallest amount of its currency."
        raise invalid(message, "amount", "amount_too_small")
    if amount > _LARGEST:
        raise invalid(f"Amount must be no more than {_LARGEST}.", "amount", "amount_too_large")
    if fee is None:
        return
    if call.is_platform:
        raise invalid(
            "Can only apply an application_fee_amount when the PaymentIntent is attempting a "
            "direct payment (using an OAuth key or Stripe-Account header) or destination payment "
            "(using `transfer_data[destination]`).",
            "application_fee_amount",
        )
    if fee > amount:
        message = "The application fee cannot be greater than the amount of the PaymentIntent."
        raise invalid(message, "application_fee_amount")


def retrieve(call: Call, body: Retrieval, identifier: str) -> Resource:
    """Return an intent."""
    intent = call.get("payment_intent", identifier)
    require_secret(call, intent, body.client_secret)
    return intent


def update(call: Call, body: PaymentIntentUpdate, identifier: str) -> Resource:
    """Change an intent that was not paid or canceled."""
    intent = call.get("payment_intent", identifier)
    changes = body.model_dump(exclude={"expand", "metadata", "payment_method"}, exclude_none=True)
    if (changes or body.payment_method) and intent["status"] not in _OPEN:
        message = f"This PaymentIntent could not be updated: its status is {intent['status']}."
        raise unexpected_state(message, payment_intent=intent)
    changed_intent = intent | changes
    fee = changed_intent["application_fee_amount"]
    _require_amounts(call, changed_intent["amount"], intent["currency"], fee)
    if body.payment_method:
        method = find_usable(call, body.payment_method)
        changes |= {"payment_method": method["id"], "status": "requires_confirmation"}
    metadata = changed_metadata(intent["metadata"], body.metadata)
    return call.save(intent, **changes, metadata=metadata)


def confirm(call: Call, body: Confirmation, identifier: str) -> Resource:
    """Charge the card; raises StripeError 402 if that is declined."""
    intent = call.get("payment_intent", identifier)
    require_secret(call, intent, body.client_secret)
    if intent["status"] not in _OPEN:
        reason = {
            "succeeded": "it has already succeeded after being previously confirmed",
        }.get(intent["status"], f"it has a status of {intent['status']}")
        message = f"You cannot confirm this PaymentIntent because {reason}."
        raise unexpected_state(message, payment_intent=intent)
    require_charges(call)
    require_currency(call, intent["currency"])
    attempt_payment(call, intent, body)
    return intent


def cancel(call: Call, body: Cancellation, identifier: str) -> Resource:
    """Cancel an intent that was not paid."""
    intent = call.get("payment_intent", identifier)
    if intent["status"] not in _OPEN:
        message = (
            "You cannot cancel this PaymentIntent because it has a status of "
            f"{intent['status']}. Only a PaymentIntent with one of the following statuses may be "
            f"canceled: {_STATUSES}."
        )
        raise unexpected_state(message, payment_intent=intent)
    reason = body.cancellation_reason
    call.save(
        intent,
        status="canceled",
        canceled_at=call.now,
        cancellation_reason=reason,
        next_action=None,
    )
    call.emit("payment_intent.canceled", intent)
    return intent


def list_all(call: Call, body: PaymentIntentList, _: str) -> Resource:
    """List intents."""
    url = "/v1/payment_intents"
    return call.page("payment_intent", url, body.query(), customer=body.customer)
