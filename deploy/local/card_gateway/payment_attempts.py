"""Confirmed payment intents: the bank authenticates the payer, and accepts or declines."""

from typing import Any, Literal

from deploy.local.card_gateway import charges, disputes
from deploy.local.card_gateway.call import Call, public
from deploy.local.card_gateway.cards import Authentication, Decline, card_error
from deploy.local.card_gateway.errors import StripeError, invalid, unexpected_state
from deploy.local.card_gateway.intents import next_action
from deploy.local.card_gateway.parameters import Parameters
from deploy.local.card_gateway.payment_methods import (
    attach_to,
    card_of,
    find_usable,
    require_unused,
)
from deploy.local.card_gateway.store import Resource

NOT_AUTHENTICATED = (
    "We are unable to authenticate your payment method. Please choose a different payment method "
    "and try again."
)
_REQUIRED = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)


class PaymentAttempt(Parameters):
    """The parameters of a confirmation."""

    error_on_requires_action: bool = False
    off_session: bool = False
    payment_method: str | None = None
    return_url: str | None = None
    setup_future_usage: Literal["off_session", "on_session"] | None = None


def attempt_payment(call: Call, intent: Resource, body: PaymentAttempt) -> None:
    """Charge the card of an intent, or require 3-D Secure; raises StripeError if it is declined."""
    if body.payment_method:
        intent["payment_method"] = find_usable(call, body.payment_method)["id"]
    if body.setup_future_usage:
        intent["setup_future_usage"] = body.setup_future_usage
    method = _method_of(call, intent)
    is_required = _requires_authentication(method, is_off_session=body.off_session)
    if is_required and not body.off_session and not body.error_on_requires_action:
        action = next_action(call, intent, body.return_url)
        call.save(intent, status="requires_action", next_action=action, last_payment_error=None)
        call.emit("payment_intent.requires_action", intent)
        return
    failure = _REQUIRED if is_required else card_of(method).decline
    if failure is None:
        _succeed(call, intent, method)
    else:
        raise _fail(call, intent, method, failure)


def _method_of(call: Call, intent: Resource) -> Resource:
    """Return the method of an intent; raises StripeError if the intent cannot use it."""
    if not intent["payment_method"]:
        message = (
            "You cannot confirm this PaymentIntent because it's missing a payment method. To "
            "confirm the PaymentIntent, provide `payment_method`."
        )
        raise unexpected_state(message, payment_intent=intent)
    method = call.get("payment_method", intent["payment_method"], "payment_method")
    require_unused(method)
    if method["customer"] and method["customer"] != intent["customer"]:
        raise invalid(
            "The payment method is attached to a customer. Provide this customer in the "
            "PaymentIntent.",
            "payment_method",
            "payment_intent_invalid_parameter",
        )
    return method


def _requires_authentication(method: Resource, *, is_off_session: bool) -> bool:
    required = card_of(method).authentication
    if required is Authentication.UNTIL_SET_UP:
        return not (is_off_session and method["_is_set_up"])
    return required is Authentication.ALWAYS


def _succeed(call: Call, intent: Resource, method: Resource) -> None:
    if intent["setup_future_usage"] and intent["customer"]:
        attach_to(call, method, intent["customer"])
    charge = charges.create(call, intent, method)
    call.save(
        intent,
        status="succeeded",
        amount_received=intent["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        next_action=None,
    )
    call.emit("payment_intent.succeeded", intent)
    card = card_of(method)
    if card.dispute:
        disputes.open_dispute(
            call, charge, charge["amount"], card.dispute, is_inquiry=card.is_inquiry
        )


def _fail(call: Call, intent: Resource, method: Resource, failure: Decline) -> StripeError:
    """Store that the bank has declined, and return the error for the client."""
    charge = charges.create(call, intent, method, failure)
    body = card_error(failure, charge=charge["id"], payment_method=public(method)).body()
    _reopen(call, intent, body["error"], latest_charge=charge["id"])
    return card_error(
        failure,
        is_recorded=True,
        charge=charge["id"],
        payment_intent=intent,
        payment_method=method,
    )


def _reopen(call: Call, intent: Resource, error: dict[str, Any], **changes: Any) -> None:
    """Let an intent wait for another payment method."""
    call.save(
        intent,
        status="requires_payment_method",
        payment_method=None,
        last_payment_error=error,
        next_action=None,
        **changes,
    )
    call.emit("payment_intent.payment_failed", intent)


def finish_authentication(call: Call, intent: Resource, *, is_successful: bool) -> None:
    """Be the bank after 3-D Secure; raises StripeError if none is in progress."""
    if intent["status"] != "requires_action":
        message = f"The PaymentIntent's status is {intent['status']}: it requires no action."
        raise unexpected_state(message, payment_intent=intent)
    method = _method_of(call, intent)
    decline = card_of(method).decline
    if not is_successful:
        error = StripeError(
            402,
            NOT_AUTHENTICATED,
            code="payment_intent_authentication_failure",
            payment_method=public(method),
        )
        _reopen(call, intent, error.body()["error"])
    elif decline:
        _fail(call, intent, method, decline)
    else:
        call.save(method, _is_set_up=True)
        _succeed(call, intent, method)
