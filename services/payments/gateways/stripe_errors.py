"""Stripe's errors, translated to ours: https://docs.stripe.com/error-codes."""

import stripe
from stripe import StripeError

from services.payments.gateways.protocol import (
    ACCOUNT_CANNOT_CHARGE,
    CARD_TOKEN_UNKNOWN,
    AccountNotAccessible,
    Failure,
    GatewayRefused,
    GatewayUnavailable,
    currency_not_supported,
)

_REFUSALS = (stripe.CardError, stripe.InvalidRequestError)
"""Answers that will not be another the next time: https://docs.stripe.com/api/errors.

A body that is not Stripe's, such as a page of a proxy, is another error, with whatever status.
"""

# A new intent refers to no object but its card.
_TOKEN_CODES = frozenset(
    {
        "payment_method_invalid_parameter",
        "payment_method_unexpected_state",
        "resource_missing",
        "token_already_used",
        "token_in_use",
    }
)

_NOT_ACCESSIBLE = "account_invalid"

# What a charge on an account is refused with while the account is restricted.
_CANNOT_CHARGE = frozenset(
    {
        "account_closed",
        "account_invalid",
        "capability_not_active",
        "payment_method_unactivated",
        "testmode_charges_only",
    }
)


def _code_of(error: StripeError) -> str | None:
    """Return the code of an error. The library sets `code` on some kinds of errors alone."""
    return error.code or (error.error.code if error.error is not None else None)


def raised(error: StripeError) -> GatewayUnavailable | GatewayRefused:
    """Return GatewayRefused when the cause is the payer's, GatewayUnavailable for a later retry.

    AccountNotAccessible, which is a GatewayUnavailable too, if the key has no access to the
    connected account of the call.
    """
    if _code_of(error) == _NOT_ACCESSIBLE and error.http_status == 403:
        return AccountNotAccessible(type(error).__name__)
    if not isinstance(error, _REFUSALS):
        return GatewayUnavailable(type(error).__name__)
    message = error.user_message or "The payment gateway refused the payment."
    return GatewayRefused(Failure(error.code or "payment_refused", message))


def require_refusal(error: StripeError) -> None:
    """Raise GatewayUnavailable unless Stripe has refused the call: then the object has a state."""
    cause = raised(error)
    if isinstance(cause, GatewayUnavailable):
        raise cause from error


def unavailable(error: StripeError) -> GatewayUnavailable:
    """Return the error of a call that has no refusal: whatever the cause is, a retry may help."""
    cause = raised(error)
    return (
        cause if isinstance(cause, GatewayUnavailable) else GatewayUnavailable(cause.failure.code)
    )


def raised_by_preparation(
    error: StripeError, account: str | None, currency: str | None = None
) -> GatewayUnavailable | GatewayRefused:
    """Return the error of an intent that was not created; a card alone has no `currency`.

    What concerns the account is a refusal that does not show the account's details to the payer.
    Stripe's message about an unknown token would repeat the token.
    """
    if account is not None and _code_of(error) in _CANNOT_CHARGE:
        return GatewayRefused(ACCOUNT_CANNOT_CHARGE)
    if isinstance(error, stripe.InvalidRequestError):
        if currency is not None and error.param == "currency":
            return GatewayRefused(currency_not_supported(currency))
        if error.http_status == 404 or error.code in _TOKEN_CODES:
            return GatewayRefused(CARD_TOKEN_UNKNOWN)
    return raised(error)
