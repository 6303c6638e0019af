"""Setup intents, which keep a card for later: https://docs.stripe.com/api/setup_intents."""

from typing import Literal

from pydantic import Field

from deploy.local.card_gateway.call import APPLICATION, Call, public
from deploy.local.card_gateway.cards import Authentication, Decline, card_error
from deploy.local.card_gateway.errors import StripeError, unexpected_state
from deploy.local.card_gateway.intents import new_client_secret, next_action, require_secret
from deploy.local.card_gateway.parameters import (
    ListParameters,
    Metadata,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.payment_attempts import NOT_AUTHENTICATED
from deploy.local.card_gateway.payment_intents import AutomaticMethods
from deploy.local.card_gateway.payment_methods import attach_to, card_of, find_usable
from deploy.local.card_gateway.store import Resource

_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")


class SetupAttempt(Parameters):
    """The parameters of a confirmation."""

    payment_method: str | None = None
    return_url: str | None = None


class SetupConfirmation(SetupAttempt):
    """POST /v1/setup_intents/{id}/confirm."""

    client_secret: str | None = None


class SetupIntentCreate(SetupAttempt):
    """POST /v1/setup_intents."""

    automatic_payment_methods: AutomaticMethods | None = None
    confirm: bool = False
    customer: str | None = None
    description: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    payment_method_types: list[Literal["card"]] = Field(default=["card"])
    usage: Literal["off_session", "on_session"] = "off_session"


class SetupIntentUpdate(Parameters):
    """POST /v1/setup_intents/{id}."""

    description: str | None = None
    metadata: MetadataChange | None = None


class SetupCancellation(Parameters):
    """POST /v1/setup_intents/{id}/cancel."""

    cancellation_reason: Literal["abandoned", "duplicate", "requested_by_customer"] | None = None


class SetupRetrieval(Parameters):
    """GET /v1/setup_intents/{id}."""

    client_secret: str | None = None


class SetupIntentList(ListParameters):
    """GET /v1/setup_intents."""

    customer: str | None = None
    payment_method: str | None = None


def create(call: Call, body: SetupIntentCreate, _: str) -> Resource:
    """Create a setup intent, and confirm it if `confirm` is true."""
    if body.customer:
        call.get("customer", body.customer, "customer")
    method = find_usable(call, body.payment_method) if body.payment_method else None
    fields = {
        **body.model_dump(exclude={"confirm", "expand", "payment_method", "return_url"}),
        **dict.fromkeys(("cancellation_reason", "last_setup_error", "latest_attempt")),
        **dict.fromkeys(("mandate", "next_action", "on_behalf_of", "single_use_mandate")),
        "application": None if call.is_platform else APPLICATION,
        "payment_method": method["id"] if method else None,
        "status": "requires_confirmation" if method else "requires_payment_method",
    }
    intent = call.create("seti", "setup_intent", fields)
    call.save(intent, client_secret=new_client_secret(intent["id"]))
    call.emit("setup_intent.created", intent)
    if body.confirm:
        _attempt(call, intent, body)
    return intent


def confirm(call: Call, body: SetupConfirmation, identifier: str) -> Resource:
    """Set the card up, or require 3-D Secure; raises StripeError if the bank declines."""
    intent = call.get("setup_intent", identifier)
    require_secret(call, intent, body.client_secret)
    _attempt(call, intent, body)
    return intent


def _attempt(call: Call, intent: Resource, body: SetupAttempt) -> None:
    if intent["status"] not in _OPEN:
        message = f"You cannot confirm this SetupIntent: its status is {intent['status']}."
        raise unexpected_state(message, setup_intent=intent)
    if body.payment_method:
        intent["payment_method"] = find_usable(call, body.payment_method)["id"]
    if not intent["payment_method"]:
        message = "You cannot confirm this SetupIntent because it's missing a payment method."
        raise unexpected_state(message, setup_intent=intent)
    method = call.get("payment_method", intent["payment_method"], "payment_method")
    if card_of(method).authentication is Authentication.NEVER:
        _finish(call, intent, method)
        return
    action = next_action(call, intent, body.return_url)
    call.save(intent, status="requires_action", next_action=action, last_setup_error=None)
    call.emit("setup_intent.requires_action", intent)


def _finish(call: Call, intent: Resource, method: Resource) -> None:
    card = card_of(method)
    if card.decline and not card.attaches:
        _fail(call, intent, card_error(card.decline, payment_method=public(method)))
        raise card_error(card.decline, is_recorded=True, setup_intent=intent, payment_method=method)
    if intent["customer"]:
        attach_to(call, method, intent["customer"])
    call.save(method, _is_set_up=True)
    call.save(intent, status="succeeded", next_action=None, last_setup_error=None)
    call.emit("setup_intent.succeeded", intent)


def _fail(call: Call, intent: Resource, error: StripeError) -> None:
    call.save(
        intent,
        status="requires_payment_method",
        payment_method=None,
        next_action=None,
        last_setup_error=error.body()["error"],
    )
    call.emit("setup_intent.setup_failed", intent)


def finish_authentication(call: Call, intent: Resource, *, is_successful: bool) -> None:
    """Be the bank after 3-D Secure; raises StripeError if none is in progress or it declines."""
    if intent["status"] != "requires_action":
        message = f"The SetupIntent's status is {intent['status']}: it requires no action."
        raise unexpected_state(message, setup_intent=intent)
    method = call.get("payment_method", intent["payment_method"])
    if is_successful:
        _finish(call, intent, method)
        return
    failure = Decline("setup_intent_authentication_failure", message=NOT_AUTHENTICATED)
    _fail(call, intent, card_error(failure, payment_method=public(method)))


def retrieve(call: Call, body: SetupRetrieval, identifier: str) -> Resource:
    """Return a setup intent."""
    intent = call.get("setup_intent", identifier)
    require_secret(call, intent, body.client_secret)
    return intent


def update(call: Call, body: SetupIntentUpdate, identifier: str) -> Resource:
    """Change the description or metadata."""
    intent = call.get("setup_intent", identifier)
    changes = body.model_dump(include={"description"}, exclude_none=True)
    metadata = changed_metadata(intent["metadata"], body.metadata)
    return call.save(intent, **changes, metadata=metadata)


def cancel(call: Call, body: SetupCancellation, identifier: str) -> Resource:
    """Cancel a setup intent that has not succeeded."""
    intent = call.get("setup_intent", identifier)
    if intent["status"] not in _OPEN:
        message = f"You cannot cancel this SetupIntent: its status is {intent['status']}."
        raise unexpected_state(message, setup_intent=intent)
    reason = body.cancellation_reason
    call.save(intent, status="canceled", cancellation_reason=reason, next_action=None)
    call.emit("setup_intent.canceled", intent)
    return intent


def list_all(call: Call, body: SetupIntentList, _: str) -> Resource:
    """List setup intents."""
    return call.page(
        "setup_intent",
        "/v1/setup_intents",
        body.query(),
        customer=body.customer,
        payment_method=body.payment_method,
    )
