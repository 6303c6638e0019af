"""Card tokens and payment methods: https://docs.stripe.com/api/payment_methods."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.cards import (
    Decline,
    TestCard,
    card_error,
    card_of_name,
    card_of_number,
)
from deploy.local.card_gateway.errors import invalid, missing_resource
from deploy.local.card_gateway.parameters import (
    Fields,
    ListParameters,
    Metadata,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.store import Resource

_YEARS_VALID = 5


class CardFields(Fields):
    """A card, or a token of one."""

    number: str | None = None
    exp_month: int | None = Field(default=None, ge=1, le=12)
    exp_year: int | None = None
    cvc: str | None = None
    token: str | None = None
    name: str | None = None


class TokenCreate(Parameters):
    """POST /v1/tokens."""

    card: CardFields


class BillingDetails(Fields):
    """Who holds the card."""

    address: dict[str, str] | None = None
    email: str | None = None
    name: str | None = None
    phone: str | None = None


class PaymentMethodCreate(Parameters):
    """POST /v1/payment_methods."""

    type: Literal["card"]
    card: CardFields
    billing_details: BillingDetails = BillingDetails()
    metadata: Metadata = Field(default_factory=dict)
    allow_redisplay: Literal["always", "limited", "unspecified"] = "unspecified"


class PaymentMethodUpdate(Parameters):
    """POST /v1/payment_methods/{id}."""

    billing_details: BillingDetails | None = None
    metadata: MetadataChange | None = None


class Attachment(Parameters):
    """POST /v1/payment_methods/{id}/attach."""

    customer: str


class PaymentMethodList(ListParameters):
    """GET /v1/payment_methods."""

    customer: str | None = None
    type: Literal["card"] | None = None


def create_token(call: Call, body: TokenCreate, _: str) -> Resource:
    """Exchange a card for a token that can be used once."""
    test_card, card = _card(call, body.card)
    fields = {"type": "card", "client_ip": None, "used": False}
    return call.create("tok", "token", {**fields, "card": card, "_number": test_card.number})


def create(call: Call, body: PaymentMethodCreate, _: str) -> Resource:
    """Create a payment method of a card or a token."""
    test_card, card = (
        _of_token(call, body.card.token) if body.card.token else _card(call, body.card)
    )
    return _create(call, test_card, card, body)


def _create(
    call: Call, test_card: TestCard, card: Resource, body: PaymentMethodCreate | None = None
) -> Resource:
    details = body.billing_details if body else BillingDetails()
    fields = {
        "type": "card",
        "allow_redisplay": body.allow_redisplay if body else "unspecified",
        "billing_details": details.model_dump(),
        "card": card,
        "customer": None,
        "metadata": body.metadata if body else {},
        "_number": test_card.number,
        "_is_set_up": False,
        "_is_used": False,
    }
    return call.create("pm", "payment_method", fields)


def _card(call: Call, fields: CardFields) -> tuple[TestCard, Resource]:
    """Return a card of which a client sent the number; raises StripeError for a wrong one."""
    for name in ("number", "exp_month", "exp_year"):
        if getattr(fields, name) is None:
            raise invalid(f"Missing required param: {name}.", f"card[{name}]", "parameter_missing")
    test_card = card_of_number(fields.number or "")
    today = datetime.fromtimestamp(call.now, UTC)
    year, month = fields.exp_year or 0, fields.exp_month or 0
    year += 2000 if year < 100 else 0
    if (year, month) < (today.year, today.month):
        part = "year" if year < today.year else "month"
        message = f"Your card's expiration {part} is invalid."
        raise card_error(Decline(f"invalid_expiry_{part}", message=message), param=f"exp_{part}")
    return test_card, _card_object(test_card, year, month, has_cvc=fields.cvc is not None)


def _card_object(card: TestCard, year: int, month: int, *, has_cvc: bool = True) -> Resource:
    return {
        "brand": card.brand,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "unchecked" if has_cvc else None,
        },
        "country": card.country,
        "display_brand": card.brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": f"Local{''.join(chr(97 + int(digit)) for digit in card.number)}",
        "funding": card.funding,
        "last4": card.number[-4:],
        "networks": {"available": [card.brand], "preferred": None},
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _of_token(call: Call, token: str) -> tuple[TestCard, Resource]:
    """Return the card of a token; raises StripeError if it is unknown or was used."""
    if test_card := card_of_name(token, "tok_"):
        return test_card, _named_card(call, test_card)
    resource = call.find("token", token)
    if resource is None:
        raise missing_resource("token", token, "card[token]")
    if resource["used"]:
        message = f"You cannot use a Stripe token more than once: {token}."
        raise invalid(message, "card[token]", "token_already_used")
    call.save(resource, used=True)
    return card_of_number(resource["_number"]), resource["card"]


def _named_card(call: Call, test_card: TestCard) -> Resource:
    year = datetime.fromtimestamp(call.now, UTC).year + _YEARS_VALID
    return _card_object(test_card, year, 12)


def find_usable(call: Call, identifier: str, param: str = "payment_method") -> Resource:
    """Return a payment method of these books; an id such as `pm_card_visa` creates one.

    Raises StripeError if there is none.
    """
    if test_card := card_of_name(identifier, "pm_card_"):
        return _create(call, test_card, _named_card(call, test_card))
    return call.get("payment_method", identifier, param)


def card_of(method: Resource) -> TestCard:
    """Return the card of a payment method."""
    return card_of_number(method["_number"])


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a payment method."""
    return call.get("payment_method", identifier)


def update(call: Call, body: PaymentMethodUpdate, identifier: str) -> Resource:
    """Change who holds the card, or metadata."""
    method = call.get("payment_method", identifier)
    changes: dict[str, Any] = {"metadata": changed_metadata(method["metadata"], body.metadata)}
    if body.billing_details:
        details = body.billing_details.model_dump(exclude_none=True)
        changes["billing_details"] = method["billing_details"] | details
    return call.save(method, **changes)


def list_all(call: Call, body: PaymentMethodList, _: str) -> Resource:
    """List payment methods; Stripe lists those of a customer."""
    customer = call.get("customer", body.customer, "customer")["id"] if body.customer else None
    return call.page(
        "payment_method", "/v1/payment_methods", body.query(), customer=customer, type=body.type
    )


def list_of_customer(call: Call, body: PaymentMethodList, customer: str) -> Resource:
    """List the payment methods of the customer in the path."""
    call.get("customer", customer)
    url = f"/v1/customers/{customer}/payment_methods"
    return call.page("payment_method", url, body.query(), customer=customer, type=body.type)


def attach(call: Call, body: Attachment, identifier: str) -> Resource:
    """Attach a payment method to a customer; raises StripeError if the card declines that."""
    customer = call.get("customer", body.customer, "customer")
    return attach_to(call, find_usable(call, identifier), customer["id"])


def attach_to(call: Call, method: Resource, customer: str) -> Resource:
    """Attach a payment method; raises StripeError if it has another customer or is declined."""
    if method["customer"] == customer:
        return method
    require_unused(method)
    if method["customer"]:
        message = "The payment method you provided has already been attached to a customer."
        raise invalid(message, "payment_method", "payment_method_unexpected_state")
    card = card_of(method)
    if card.decline and not card.attaches:
        raise card_error(card.decline)
    call.save(method, customer=customer)
    call.emit("payment_method.attached", method)
    return method


def require_unused(method: Resource) -> None:
    """Raise StripeError if a method without a customer was used for a payment."""
    if method["_is_used"] and not method["customer"]:
        raise invalid(
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer "
            "attachment, shared with a connected account without Customer attachment, or was "
            "detached from a Customer. It may not be used again. To use a PaymentMethod multiple "
            "times, you must attach it to a Customer first.",
            "payment_method",
            "payment_method_unexpected_state",
        )


def detach(call: Call, _: Parameters, identifier: str) -> Resource:
    """Detach a payment method from its customer; it cannot be used any more."""
    method = call.get("payment_method", identifier)
    if method["customer"] is None:
        message = "The payment method you provided is not attached to a customer."
        raise invalid(f"{message} Detachment is impossible.", "payment_method")
    before = {"customer": method["customer"]}
    call.save(method, customer=None, _is_used=True)
    call.emit("payment_method.detached", method, before)
    return method
