"""What payment intents and setup intents share: client secrets and 3-D Secure."""

import hmac
from typing import Any
from urllib.parse import quote, urlencode

from deploy.local.card_gateway.call import Call, new_id
from deploy.local.card_gateway.errors import StripeError, invalid
from deploy.local.card_gateway.store import Resource

AUTHENTICATION_PATH = "/_pages/authentication"


def new_client_secret(identifier: str) -> str:
    """Return the secret with which a browser may act on an intent."""
    return f"{identifier}_{new_id('secret')}"


def require_secret(call: Call, intent: Resource, secret: str | None) -> None:
    """Raise StripeError if a browser does not know the intent's secret."""
    if secret is None and not call.is_publishable:
        return
    if secret is None:
        raise invalid(
            "Missing required param: client_secret.", "client_secret", "parameter_missing"
        )
    if not hmac.compare_digest(secret.encode(), intent["client_secret"].encode()):
        message = "The client_secret provided does not match the client_secret of this intent."
        raise invalid(message, "client_secret", f"{intent['object']}_invalid_parameter")


def next_action(call: Call, intent: Resource, return_url: str | None) -> dict[str, Any]:
    """Return what the payer must do: visit a page, or authenticate in Stripe's library.

    https://docs.stripe.com/api/payment_intents/object#payment_intent_object-next_action: an intent
    with a `return_url` has a redirect. Both kinds have the address of the same page here.
    """
    query = f"?{urlencode({'return_url': return_url})}" if return_url else ""
    url = f"{call.base_url}{AUTHENTICATION_PATH}/{quote(intent['client_secret'])}{query}"
    if return_url:
        redirect = {"return_url": return_url, "url": url}
        return {"type": "redirect_to_url", "redirect_to_url": redirect}
    action = {"type": "three_d_secure_redirect", "stripe_js": url}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": action}


def intent_of_secret(call: Call, secret: str) -> tuple[Call, Resource]:
    """Return an intent of any account by its client secret, and a call on that account's books."""
    identifier = secret.partition("_secret_")[0]
    book = call.store.book_of(identifier) or call.book
    own = call.for_account(book)
    for kind in ("payment_intent", "setup_intent"):
        intent = own.find(kind, identifier)
        if intent and hmac.compare_digest(secret.encode(), intent["client_secret"].encode()):
            return own, intent
    raise StripeError(404, "No intent has this client secret.", param="client_secret")
