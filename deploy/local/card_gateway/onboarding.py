"""Account links, and the page to which they lead: https://docs.stripe.com/api/account_links.

At Stripe the owner of an account enters data on this page and Stripe examines them. Here a person,
or a test with one POST, chooses the result.
"""

from html import escape
from typing import Literal

from deploy.local.card_gateway.accounts import require_access, set_state
from deploy.local.card_gateway.call import PLATFORM, Call
from deploy.local.card_gateway.errors import StripeError, missing_resource
from deploy.local.card_gateway.parameters import Fields, Parameters, read_parameters
from deploy.local.card_gateway.store import Resource

ONBOARDING_PATH = "/_pages/onboarding"
SECONDS_VALID = 300

Outcome = Literal["complete", "restrict", "reject"]
_LABELS = {
    "complete": "Complete: payments and payouts are enabled",
    "restrict": "Restrict: Stripe wants a document, payments are disabled",
    "reject": "Reject: Stripe does not accept this business",
}


class CollectionOptions(Fields):
    """Which requirements the page asks for: without effect here."""

    fields: Literal["currently_due", "eventually_due"] = "currently_due"
    future_requirements: Literal["include", "omit"] = "omit"


class AccountLinkCreate(Parameters):
    """POST /v1/account_links."""

    account: str
    collection_options: CollectionOptions | None = None
    refresh_url: str
    return_url: str
    type: Literal["account_onboarding", "account_update"]


class OutcomeChoice(Fields):
    """POST /_pages/onboarding/{id}."""

    outcome: Outcome


def create(call: Call, body: AccountLinkCreate, _: str) -> Resource:
    """Create a link that can be visited once, within five minutes."""
    require_access(call, body.account)
    fields = {
        "expires_at": call.now + SECONDS_VALID,
        "_account": body.account,
        "_is_used": False,
        "_is_visited": False,
        "_refresh_url": body.refresh_url,
        "_return_url": body.return_url,
    }
    link = call.create("alink", "account_link", fields)
    url = f"{call.base_url}{ONBOARDING_PATH}/{link['id']}"
    private = ("id", "livemode")
    return {name: value for name, value in link.items() if name not in private} | {"url": url}


def visit(call: Call, identifier: str) -> tuple[str | None, str]:
    """Return where a visitor is redirected, or None and the page of a link that is valid.

    Raises StripeError for an unknown link.
    """
    link = _link(call, identifier)
    if link["_is_visited"] or not _is_valid(call, link):
        return link["_refresh_url"], ""
    call.save(link, _is_visited=True)
    account = require_access(call, link["_account"])
    return None, _page(account)


def finish(call: Call, identifier: str, fields: dict[str, str]) -> str:
    """Give the account the chosen state and return where the visitor is redirected.

    Raises StripeError for an unknown link or outcome.
    """
    choice = read_parameters(OutcomeChoice, fields, "the onboarding page")
    link = _link(call, identifier)
    if not _is_valid(call, link):
        return str(link["_refresh_url"])
    call.save(link, _is_used=True)
    set_state(call, require_access(call, link["_account"]), choice.outcome)
    return str(link["_return_url"])


def _link(call: Call, identifier: str) -> Resource:
    link = call.store.find(PLATFORM, "account_link", identifier)
    if link is None:
        raise missing_resource("account_link", identifier)
    return link


def _is_valid(call: Call, link: Resource) -> bool:
    account = call.store.find(PLATFORM, "account", link["_account"])
    is_connected = account is not None and not account["_is_deauthorized"]
    return is_connected and not link["_is_used"] and call.now <= link["expires_at"]


def _page(account: Resource) -> str:
    buttons = "".join(
        f'<p><button name="outcome" value="{outcome}">{escape(label)}</button></p>'
        for outcome, label in _LABELS.items()
    )
    owner = escape(f"{account['id']}, {account['country']}, {account['email'] or 'no e-mail'}")
    return html_page("Onboarding", f"<p>{owner}</p><form method=post>{buttons}</form>")


def html_page(title: str, content: str) -> str:
    """Return a page of this server. `content` is HTML."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1><p>This is the local card gateway, not Stripe. No real money "
        f"moves.</p>{content}</html>"
    )


def error_page(error: StripeError) -> str:
    """Return the page of an error."""
    return html_page("Error", f"<p>{escape(str(error))}</p>")
