"""Stripe's errors, as the errors of our own protocol: https://docs.stripe.com/api/errors."""

import stripe
from stripe import StripeError

from services.payments.gateways.protocol import (
    Failure,
    GatewayRefused,
    GatewayUnavailable,
)

_REFUSALS = (stripe.CardError, stripe.InvalidRequestError)
"""Answers that will not be another the next time: https://docs.stripe.com/api/errors.

A body that is not Stripe's, such as a page of a proxy, is another error, with whatever status.
"""

# https://docs.stripe.com/error-codes. A new intent refers to no object but its card.
_TOKEN_CODES = frozenset(
    {
        "payment_method_invalid_parameter",
        "payment_method_unexpected_state",
        "resource_missing",
        "token_already_used",
        "token_in_use",
    }
)


def raised(error: StripeError) -> GatewayUnavailable | GatewayRefused:
    """Return GatewayRefused when the cause is the payer's, GatewayUnavailable for a later retry."""
    if not isinstance(error, _REFUSALS):
        return GatewayUnavailable(type(error).__name__)
    message = error.user_message or "The payment gateway refused the payment."
    return GatewayRefused(Failure(error.code or "payment_refused", message))


def is_unknown_token(error: StripeError) -> bool:
    """Return whether an intent was refused because of its token, which the message would repeat."""
    return isinstance(error, stripe.InvalidRequestError) and (
        error.http_status == 404 or error.code in _TOKEN_CODES
    )
