"""The cards of https://docs.stripe.com/testing, and what happens to a payment with each."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from deploy.local.card_gateway.errors import StripeError


@dataclass(frozen=True)
class Decline:
    """Why a bank declines: https://docs.stripe.com/declines/codes."""

    code: str = "card_declined"
    decline_code: str | None = None
    message: str = "Your card was declined."


class Authentication(Enum):
    """When 3-D Secure is required."""

    NEVER = auto()
    UNTIL_SET_UP = auto()
    """In each payment on session, and off session until the card was set up with it."""
    ALWAYS = auto()


@dataclass(frozen=True)
class TestCard:
    """A card. `names` follow `pm_card_` and `tok_` in the ids that stand for it."""

    number: str
    names: tuple[str, ...]
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    decline: Decline | None = None
    attaches: bool = True
    """Whether a card that declines payments can be attached to a customer."""
    authentication: Authentication = Authentication.NEVER
    dispute: str | None = None
    """The reason for which a payment is disputed at once."""
    is_inquiry: bool = False
    refund: str = "succeeded"
    """The first status of a refund; `/_test/refunds/{id}` changes it."""
    is_available_at_once: bool = False


def _declined(
    number: str, names: tuple[str, ...], reason: Decline, *, attaches: bool = False
) -> TestCard:
    return TestCard(number, names, decline=reason, attaches=attaches)


_GENERIC = Decline(decline_code="generic_decline")
_INSUFFICIENT = Decline(
    decline_code="insufficient_funds", message="Your card has insufficient funds."
)
_UNTIL_SET_UP, _ALWAYS = Authentication.UNTIL_SET_UP, Authentication.ALWAYS

_CARDS = (
    TestCard("4242424242424242", ("visa",)),
    TestCard("4000056655665556", ("visa_debit",), funding="debit"),
    TestCard("5555555555554444", ("mastercard",), "mastercard"),
    TestCard("5200828282828210", ("mastercard_debit",), "mastercard", "debit"),
    TestCard("5105105105105100", ("mastercard_prepaid",), "mastercard", "prepaid"),
    TestCard("378282246310005", ("amex",), "amex"),
    TestCard("6011111111111117", ("discover",), "discover"),
    TestCard("3056930009020004", ("diners",), "diners"),
    TestCard("3566002020360505", ("jcb",), "jcb", country="JP"),
    TestCard("6200000000000005", ("unionpay",), "unionpay", country="CN"),
    TestCard("4000006160000005", ("pl",), country="PL"),
    TestCard("4000002760000016", ("de",), country="DE"),
    _declined("4000000000000002", ("visa_chargeDeclined", "chargeDeclined"), _GENERIC),
    _declined(
        "4000000000009995",
        ("visa_chargeDeclinedInsufficientFunds", "chargeDeclinedInsufficientFunds"),
        _INSUFFICIENT,
    ),
    _declined(
        "4000000000009987",
        ("visa_chargeDeclinedLostCard", "chargeDeclinedLostCard"),
        Decline(decline_code="lost_card"),
    ),
    _declined(
        "4000000000009979",
        ("visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard"),
        Decline(decline_code="stolen_card"),
    ),
    _declined(
        "4000000000006975",
        ("visa_chargeDeclinedVelocityLimitExceeded",),
        Decline(decline_code="card_velocity_exceeded"),
    ),
    _declined(
        "4000000000000069",
        ("chargeDeclinedExpiredCard",),
        Decline("expired_card", message="Your card has expired."),
    ),
    _declined(
        "4000000000000127",
        ("chargeDeclinedIncorrectCvc",),
        Decline("incorrect_cvc", message="Your card's security code is incorrect."),
    ),
    _declined(
        "4000000000000119",
        ("chargeDeclinedProcessingError",),
        Decline(
            "processing_error",
            message="An error occurred while processing your card. Try again in a little bit.",
        ),
    ),
    # Stripe's page lists no decline code for it.
    _declined("4000000000000341", ("chargeCustomerFail",), Decline(), attaches=True),
    TestCard("4000002500003155", ("authenticationRequiredOnSetup",), authentication=_UNTIL_SET_UP),
    TestCard("4000002760003184", ("authenticationRequired",), authentication=_ALWAYS),
    TestCard("4000000000003220", ("threeDSecure2Required",), authentication=_ALWAYS),
    TestCard("4000000000003063", ("threeDSecureRequired",), authentication=_ALWAYS),
    TestCard("4000000000003055", ("threeDSecureOptional",)),
    TestCard(
        "4000008260003178",
        ("authenticationRequiredChargeDeclinedInsufficientFunds",),
        decline=_INSUFFICIENT,
        authentication=_ALWAYS,
    ),
    TestCard(
        "4000008400001629",
        ("threeDSecureRequiredChargeDeclined",),
        decline=_GENERIC,
        authentication=_ALWAYS,
    ),
    TestCard("4000000000000259", ("createDispute",), dispute="fraudulent"),
    TestCard(
        "4000000000002685", ("createDisputeProductNotReceived",), dispute="product_not_received"
    ),
    TestCard("4000000000001976", ("createDisputeInquiry",), dispute="fraudulent", is_inquiry=True),
    TestCard("4000000000007726", ("pendingRefund",), refund="pending"),
    TestCard("4000000000005126", ("refundFail",)),
    TestCard("4000000000000077", ("bypassPending",), is_available_at_once=True),
)
_BY_NUMBER = {card.number: card for card in _CARDS}
_BY_NAME = {name: card for card in _CARDS for name in card.names}


def card_of_number(number: str) -> TestCard:
    """Return the card with a number; raises StripeError if it is no test card."""
    digits = number.replace(" ", "").replace("-", "")
    if not digits.isdecimal() or not _has_check_digit(digits):
        raise card_error(Decline("incorrect_number", message="Your card number is incorrect."))
    if digits not in _BY_NUMBER:
        raise card_error(
            Decline(
                decline_code="test_mode_live_card",
                message="Your card was declined. Your request was in test mode, but used a non "
                "test card. For a list of valid test cards, visit: https://stripe.com/docs/testing.",
            )
        )
    return _BY_NUMBER[digits]


def _has_check_digit(digits: str) -> bool:
    """Return whether the last digit is right: ISO/IEC 7812-1, annex B."""
    doubles = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubles)) % 10 == 0


def card_of_name(identifier: str, prefix: str) -> TestCard | None:
    """Return the card of an id such as `pm_card_visa` or, with the prefix `tok_`, `tok_visa`."""
    return _BY_NAME.get(identifier.removeprefix(prefix)) if identifier.startswith(prefix) else None


def card_error(reason: Decline, **details: Any) -> StripeError:
    """Return the error 402 of a declined card."""
    details |= {"decline_code": reason.decline_code} if reason.decline_code else {}
    return StripeError(402, reason.message, kind="card_error", code=reason.code, **details)
