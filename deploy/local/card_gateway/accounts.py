"""Connected accounts: https://docs.stripe.com/api/accounts."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from deploy.local.card_gateway.call import APPLICATION, DEAUTHORIZED, PLATFORM, Call, public
from deploy.local.card_gateway.errors import StripeError, invalid
from deploy.local.card_gateway.parameters import (
    Currency,
    Fields,
    ListParameters,
    Metadata,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.store import Resource

_EURO = "AT BE BG CY DE EE ES FI FR GR HR IE IT LT LU LV MT NL PT SI SK"
_OTHERS = {
    **{"AU": "aud", "CA": "cad", "CH": "chf", "CZ": "czk", "DK": "dkk", "GB": "gbp", "HK": "hkd"},
    **{"HU": "huf", "JP": "jpy", "MX": "mxn", "NO": "nok", "NZ": "nzd", "PL": "pln", "RO": "ron"},
    **{"SE": "sek", "SG": "sgd", "US": "usd"},
}
_CURRENCIES = dict.fromkeys(_EURO.split(), "eur") | _OTHERS
_WANTED = ["business_profile.url", "external_account", "tos_acceptance.date"]


class RequestedCapability(Fields):
    """Whether the platform wants a capability."""

    requested: bool


class Capabilities(Fields):
    """What the account shall be able to do."""

    card_payments: RequestedCapability | None = None
    transfers: RequestedCapability | None = None


class FeePayer(Fields):
    """Who pays Stripe's fees."""

    payer: Literal["account", "application"] = "account"


class Losses(Fields):
    """Who is liable for negative balances."""

    payments: Literal["application", "stripe"] = "stripe"


class Dashboard(Fields):
    """Which dashboard the owner has."""

    type: Literal["express", "full", "none"] = "full"


class Controller(Fields):
    """The properties that replace `type`. This server behaves as for Stripe's standard accounts."""

    fees: FeePayer = FeePayer()
    losses: Losses = Losses()
    requirement_collection: Literal["application", "stripe"] = "stripe"
    stripe_dashboard: Dashboard = Dashboard()


class BusinessProfile(Fields):
    """What the business shows to its customers."""

    mcc: str | None = None
    name: str | None = None
    product_description: str | None = None
    support_email: str | None = None
    support_phone: str | None = None
    support_url: str | None = None
    url: str | None = None


class AccountFields(Parameters):
    """POST /v1/accounts/{id}."""

    business_profile: BusinessProfile | None = None
    business_type: Literal["company", "government_entity", "individual", "non_profit"] | None = None
    capabilities: Capabilities | None = None
    default_currency: Currency | None = None
    email: str | None = None
    metadata: MetadataChange | None = None


class AccountCreate(AccountFields):
    """POST /v1/accounts."""

    controller: Controller | None = None
    country: str = "US"
    metadata: Metadata = Field(default_factory=dict)
    type: Literal["custom", "express", "standard"] | None = None


class AccountList(ListParameters):
    """GET /v1/accounts."""


class Rejection(Parameters):
    """POST /v1/accounts/{id}/reject."""

    reason: Literal["fraud", "other", "terms_of_service"]


class Deauthorization(Parameters):
    """POST /oauth/deauthorize."""

    client_id: str
    stripe_user_id: str


def account_of(call: Call) -> Resource | None:
    """Return the connected account whose books these are, or None for the platform's."""
    return None if call.is_platform else _find(call, call.book)


def _find(call: Call, identifier: str) -> Resource | None:
    return call.store.find(PLATFORM, "account", identifier)


def require_access(call: Call, identifier: str) -> Resource:
    """Return an account of the platform; raises StripeError 403 if it is none, or was revoked."""
    account = _find(call, identifier)
    if account is None or account["_is_deauthorized"]:
        raise StripeError(
            403,
            f"The provided key 'sk_test_***' does not have access to account '{identifier}' (or "
            "that account does not exist). Application access may have been revoked.",
            code="account_invalid",
        )
    return account


def require_charges(call: Call) -> None:
    """Raise StripeError if the account may not take payments."""
    account = account_of(call)
    if account is not None and not account["charges_enabled"]:
        raise StripeError(
            400,
            "Your account cannot currently make charges. Its requirements list what is missing.",
            code="capability_not_active",
        )


def require_currency(call: Call, currency: str) -> None:
    """Raise StripeError if `/_test/accounts/{id}` has limited the account to other currencies."""
    account = account_of(call)
    currencies = account["_currencies"] if account else None
    if currencies is not None and currency not in currencies:
        names = ", ".join(currencies)
        message = f"Invalid currency: {currency}. Stripe currently supports these currencies: "
        raise invalid(message + names, "currency")


def create(call: Call, body: AccountCreate, _: str) -> Resource:
    """Create an account that must be onboarded before it can take payments."""
    if not call.is_platform:
        message = "Only Stripe Connect platforms can work with other accounts."
        raise StripeError(403, message, code="platform_account_required")
    if body.type and body.controller:
        message = "You may only specify one of these parameters: type, controller."
        raise invalid(message, "controller", "parameters_exclusive")
    currency = currency_of(body.country)
    account = call.create("acct", "account", _fields(body, currency))
    capabilities = (body.capabilities or Capabilities()).model_dump(exclude_none=True)
    names = capabilities or ["card_payments"]
    return call.save(account, capabilities=dict.fromkeys(names, "inactive"))


def currency_of(country: str) -> str:
    """Return a country's currency; raises StripeError if Stripe has no accounts there."""
    currency = _CURRENCIES.get(country)
    if currency is None:
        message = f"{country} is not currently supported by Stripe."
        raise invalid(message, "country", "country_unsupported")
    return currency


def _fields(body: AccountCreate, currency: str) -> dict[str, Any]:
    controller = body.controller or Controller()
    kind = body.type or ("none" if body.controller else "standard")
    return {
        "business_profile": (body.business_profile or BusinessProfile()).model_dump(),
        "business_type": body.business_type,
        "charges_enabled": False,
        "controller": {"type": "application", "is_controller": True, **controller.model_dump()},
        "country": body.country,
        "default_currency": body.default_currency or currency,
        "details_submitted": False,
        "email": body.email,
        "future_requirements": requirements(),
        "metadata": body.metadata,
        "payouts_enabled": False,
        "requirements": requirements(_WANTED, "requirements.past_due"),
        "settings": {"payouts": {"schedule": {"delay_days": 2, "interval": "daily"}}},
        "tos_acceptance": {"date": None},
        "type": kind,
        "_currencies": None,
        "_is_deauthorized": False,
    }


def requirements(due: list[str] | None = None, reason: str | None = None) -> dict[str, Any]:
    """Return what an account must still provide, and why it is disabled."""
    names = list(due or [])
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": names,
        "disabled_reason": reason,
        "errors": [],
        "eventually_due": names,
        "past_due": names if reason else [],
        "pending_verification": [],
    }


def change(call: Call, account: Resource, changes: Mapping[str, Any]) -> Resource:
    """Change an account and report it in the account's own events."""
    before = {
        name: account[name]
        for name, value in public(dict(changes)).items()
        if account[name] != value
    }
    call.save(account, **changes)
    if before:
        call.for_account(account["id"]).emit("account.updated", account, before)
    return account


def set_state(call: Call, account: Resource, outcome: str) -> Resource:
    """Let an onboarding end: `complete`, `restrict` or `reject`."""
    is_complete = outcome == "complete"
    due, reason = {
        "complete": ([], None),
        "restrict": (["individual.verification.document"], "requirements.past_due"),
        "reject": ([], "rejected.other"),
    }[outcome]
    states = dict.fromkeys(account["capabilities"], "active" if is_complete else "inactive")
    return change(
        call,
        account,
        {
            "capabilities": states,
            "charges_enabled": is_complete,
            "details_submitted": True,
            "payouts_enabled": is_complete,
            "requirements": requirements(due, reason),
            "tos_acceptance": {"date": call.now},
        },
    )


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return an account of the platform; raises StripeError 403 after it was revoked."""
    if not call.is_platform and identifier != call.book:
        raise StripeError(403, "An account can read itself alone.", code="account_invalid")
    return _platform() if identifier == PLATFORM else require_access(call, identifier)


def retrieve_own(call: Call, _: Parameters, __: str) -> Resource:
    """Return the account whose books these are."""
    return account_of(call) or _platform()


def _platform() -> Resource:
    return {
        "id": PLATFORM,
        "object": "account",
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "payouts_enabled": True,
        "type": "standard",
    }


def update(call: Call, body: AccountFields, identifier: str) -> Resource:
    """Change what the platform may change of an account."""
    account = require_access(call, identifier)
    changes = body.model_dump(
        include={"business_type", "default_currency", "email"}, exclude_none=True
    )
    if body.business_profile:
        profile = body.business_profile.model_dump(exclude_none=True)
        changes["business_profile"] = account["business_profile"] | profile
    if body.capabilities:
        state = "active" if account["charges_enabled"] else "inactive"
        states = dict.fromkeys(body.capabilities.model_dump(exclude_none=True), state)
        changes["capabilities"] = account["capabilities"] | states
    changes["metadata"] = changed_metadata(account["metadata"], body.metadata)
    return change(call, account, changes)


def reject(call: Call, body: Rejection, identifier: str) -> Resource:
    """Reject an account: it can take no payments and receive no payouts."""
    account = set_state(call, require_access(call, identifier), "reject")
    rejection = requirements(reason=f"rejected.{body.reason}")
    return change(call, account, {"requirements": rejection})


def delete(call: Call, _: Parameters, identifier: str) -> Resource:
    """Delete a test account; the platform has no access to it any more."""
    revoke(call, require_access(call, identifier))
    return {"id": identifier, "object": "account", "deleted": True}


def deauthorize(call: Call, body: Deauthorization, _: str) -> Resource:
    """Disconnect an account from the platform: https://docs.stripe.com/connect/oauth-reference."""
    revoke(call, require_access(call, body.stripe_user_id))
    return {"stripe_user_id": body.stripe_user_id}


def revoke(call: Call, account: Resource) -> None:
    """Take the platform's access to an account away, and report that to it."""
    call.save(account, _is_deauthorized=True)
    application = {"id": APPLICATION, "object": "application", "name": "Local platform"}
    call.for_account(account["id"]).emit(DEAUTHORIZED, application)


def list_all(call: Call, body: AccountList, _: str) -> Resource:
    """List the accounts of the platform."""
    page = call.for_account(PLATFORM).page("account", "/v1/accounts", body.query())
    accounts = [account for account in page["data"] if not account["_is_deauthorized"]]
    return page | {"data": accounts}
