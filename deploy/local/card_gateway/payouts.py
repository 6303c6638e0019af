"""Payouts to the account's bank: https://docs.stripe.com/api/payouts.

An automatic payout pays the whole available balance of one currency, and lists the balance
transactions that it consists of. One that the API creates is manual: Stripe lists none for it.
"""

from typing import Any, Literal

from pydantic import Field

from deploy.local.card_gateway import balance
from deploy.local.card_gateway.accounts import account_of
from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.errors import StripeError
from deploy.local.card_gateway.parameters import (
    Currency,
    ListParameters,
    Metadata,
    Parameters,
)
from deploy.local.card_gateway.store import Resource

Status = Literal["pending", "in_transit", "paid", "failed", "canceled"]
_UNPAID = ("pending", "in_transit")
_DAY = 86_400


class PayoutCreate(Parameters):
    """POST /v1/payouts."""

    amount: int = Field(ge=1)
    currency: Currency
    description: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    statement_descriptor: str | None = None


class PayoutList(ListParameters):
    """GET /v1/payouts."""

    status: Status | None = None


def create(call: Call, body: PayoutCreate, _: str) -> Resource:
    """Pay out a part of the balance; raises StripeError if less is available."""
    _require_payouts(call)
    balance.mature(call)
    if body.amount > balance.sums(call, "available").get(body.currency, 0):
        message = (
            "You have insufficient funds in your Stripe account for this transfer. Your available "
            "balance is too low. You can use the /v1/balance endpoint to view your Stripe balance."
        )
        raise StripeError(400, message, code="balance_insufficient", param="amount")
    payout = _create(call, body, is_automatic=False)
    call.emit("payout.created", payout)
    return payout


def pay_automatically(call: Call, currency: str) -> Resource:
    """Pay out all that is available, as Stripe does each day; raises StripeError if nothing is."""
    _require_payouts(call)
    balance.mature(call)
    amount = balance.unpaid_sum(call, currency)
    if amount <= 0:
        raise StripeError(400, f"The available balance is {amount} {currency}: nothing to pay out.")
    payout = _create(call, PayoutCreate(amount=amount, currency=currency), is_automatic=True)
    balance.assign_unpaid(call, currency, payout["id"])
    call.emit("payout.created", payout)
    return payout


def _require_payouts(call: Call) -> None:
    account = account_of(call)
    if account is not None and not account["payouts_enabled"]:
        message = "Payouts have been disabled on this account."
        raise StripeError(400, message, code="payouts_not_allowed")


def _create(call: Call, body: PayoutCreate, *, is_automatic: bool) -> Resource:
    nothing = (
        *("application_fee", "application_fee_amount", "failure_balance_transaction"),
        *("failure_code", "failure_message", "original_payout", "reversed_by", "trace_id"),
    )
    fields: dict[str, Any] = {
        **dict.fromkeys(nothing),
        **body.model_dump(exclude={"expand"}),
        "arrival_date": call.now + _DAY,
        "automatic": is_automatic,
        "destination": f"ba_{call.book.removeprefix('acct_')}{body.currency}",
        "method": "standard",
        "reconciliation_status": "in_progress" if is_automatic else "not_applicable",
        "source_type": "card",
        "status": "pending",
        "type": "bank_account",
    }
    payout = call.create("po", "payout", fields)
    transaction = balance.record(call, "payout", payout, -body.amount, is_available=True)
    return call.save(payout, balance_transaction=transaction["id"])


def settle(call: Call, payout: Resource, status: Status) -> None:
    """Be the bank: a payout is on its way, arrives, or fails and its money returns."""
    if payout["status"] not in _UNPAID and (payout["status"], status) != ("paid", "failed"):
        message = f"The payout's status is {payout['status']}: it cannot become {status}."
        raise StripeError(400, message, param="status")
    before = {"status": payout["status"]}
    changes: dict[str, Any] = {"status": status}
    if status in ("failed", "canceled"):
        kind = "payout_failure" if status == "failed" else "payout_cancel"
        reversal = balance.record(call, kind, payout, payout["amount"], is_available=True)
        changes["failure_balance_transaction"] = reversal["id"]
    if status == "failed":
        changes |= {"failure_code": "account_closed"}
        changes["failure_message"] = "The bank account has been closed."
    call.save(payout, **changes)
    call.emit("payout.updated", payout, before)
    if status in ("paid", "failed", "canceled"):
        call.emit(f"payout.{status}", payout)
    if status == "paid" and payout["automatic"]:
        call.save(payout, reconciliation_status="completed")
        call.emit("payout.reconciliation_completed", payout)


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a payout."""
    return call.get("payout", identifier)


def cancel(call: Call, _: Parameters, identifier: str) -> Resource:
    """Cancel a manual payout that is not on its way."""
    payout = call.get("payout", identifier)
    if payout["status"] != "pending" or payout["automatic"]:
        raise StripeError(400, "Only a pending payout that is not automatic can be canceled.")
    settle(call, payout, "canceled")
    return payout


def list_all(call: Call, body: PayoutList, _: str) -> Resource:
    """List payouts."""
    return call.page("payout", "/v1/payouts", body.query(), status=body.status)
