"""What tests do in the place of Stripe, of banks and of owners of accounts: `/_test/…`.

Stripe has no such paths. They need no key; with `Stripe-Account` they act on that account's books.
"""

from typing import Literal

from pydantic import Field

from deploy.local.card_gateway import (
    accounts,
    balance,
    disputes,
    payment_attempts,
    payouts,
    refunds,
    setup_intents,
)
from deploy.local.card_gateway.call import PLATFORM, Call
from deploy.local.card_gateway.errors import missing_resource
from deploy.local.card_gateway.intents import intent_of_secret
from deploy.local.card_gateway.onboarding import Outcome
from deploy.local.card_gateway.parameters import Currency, Parameters
from deploy.local.card_gateway.store import Resource


class BankAnswer(Parameters):
    """POST /_test/authentications."""

    client_secret: str
    success: bool = True


class AccountState(Parameters):
    """POST /_test/accounts/{id}. `supported_currencies` limits what the account can charge in."""

    charges_enabled: bool | None = None
    country: str | None = None
    currently_due: list[str] | None = None
    default_currency: Currency | None = None
    disabled_reason: str | None = None
    outcome: Outcome | None = None
    payouts_enabled: bool | None = None
    supported_currencies: list[Currency] | None = None


class DisputeCreate(Parameters):
    """POST /_test/disputes."""

    amount: int | None = Field(default=None, ge=1)
    charge: str | None = None
    inquiry: bool = False
    payment_intent: str | None = None
    reason: disputes.Reason = "fraudulent"


class DisputeDecision(Parameters):
    """POST /_test/disputes/{id}."""

    status: disputes.Decision


class RefundResult(Parameters):
    """POST /_test/refunds/{id}."""

    failure_reason: str | None = None
    status: Literal["failed", "succeeded"]


class AutomaticPayout(Parameters):
    """POST /_test/payouts."""

    currency: Currency
    status: Literal["pending", "in_transit", "paid", "failed"] = "paid"


class PayoutResult(Parameters):
    """POST /_test/payouts/{id}."""

    status: Literal["in_transit", "paid", "failed"]


def authenticate(call: Call, body: BankAnswer, _: str) -> Resource:
    """Be the payer on the bank's page; returns the intent, which may be of any account."""
    own, intent = intent_of_secret(call, body.client_secret)
    kinds = {"payment_intent": payment_attempts, "setup_intent": setup_intents}
    kinds[intent["object"]].finish_authentication(own, intent, is_successful=body.success)
    return intent


def change_account(call: Call, body: AccountState, identifier: str) -> Resource:
    """Change an account as Stripe or its owner may; reports `account.updated`."""
    account = _account(call, identifier)
    if body.outcome:
        accounts.set_state(call, account, body.outcome)
    changes = body.model_dump(
        include={"charges_enabled", "country", "default_currency", "payouts_enabled"},
        exclude_none=True,
    )
    if body.country:
        changes.setdefault("default_currency", accounts.currency_of(body.country))
    if body.currently_due is not None or body.disabled_reason is not None:
        due, reason = body.currently_due or [], body.disabled_reason or None
        changes["requirements"] = accounts.requirements(due, reason)
    if body.charges_enabled is not None:
        state = "active" if body.charges_enabled else "inactive"
        changes["capabilities"] = account["capabilities"] | {"card_payments": state}
    if body.supported_currencies is not None:
        changes["_currencies"] = body.supported_currencies
    return accounts.change(call, account, changes)


def _account(call: Call, identifier: str) -> Resource:
    account = call.store.find(PLATFORM, "account", identifier)
    if account is None:
        raise missing_resource("account", identifier)
    return account


def deauthorize(call: Call, _: Parameters, identifier: str) -> Resource:
    """Be the owner who disconnects an account in Stripe's dashboard."""
    account = accounts.require_access(call, identifier)
    accounts.revoke(call, account)
    return account


def dispute(call: Call, body: DisputeCreate, _: str) -> Resource:
    """Be the payer's bank, which disputes a charge."""
    charge = refunds.charge_of(call, body.charge, body.payment_intent)
    amount = body.amount or charge["amount"]
    return disputes.open_dispute(call, charge, amount, body.reason, is_inquiry=body.inquiry)


def decide_dispute(call: Call, body: DisputeDecision, identifier: str) -> Resource:
    """Be the payer's bank, which decides a dispute."""
    resource = call.get("dispute", identifier)
    disputes.decide(call, resource, body.status)
    return resource


def settle_refund(call: Call, body: RefundResult, identifier: str) -> Resource:
    """Be the payer's bank, which accepts or returns a refund."""
    refund = call.get("refund", identifier)
    refunds.settle(call, refund, body.status, body.failure_reason)
    return refund


def pay_out(call: Call, body: AutomaticPayout, _: str) -> Resource:
    """Let time pass until all is available, and pay it out automatically."""
    balance.mature(call, at_once=True)
    payout = payouts.pay_automatically(call, body.currency)
    if body.status != "pending":
        payouts.settle(call, payout, body.status)
    return payout


def settle_payout(call: Call, body: PayoutResult, identifier: str) -> Resource:
    """Be the account's bank, which accepts or returns a payout."""
    payout = call.get("payout", identifier)
    payouts.settle(call, payout, body.status)
    return payout


def clear(call: Call, _: Parameters, __: str) -> Resource:
    """Remove everything but webhook endpoints."""
    call.store.clear()
    return {"object": "data", "deleted": True}
