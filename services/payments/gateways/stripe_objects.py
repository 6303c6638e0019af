"""Stripe's objects, translated to our reports. Pure functions of bytes and dictionaries."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services.payments.gateways.minor_units import from_minor
from services.payments.gateways.protocol import (
    AccountReport,
    DisputeOutcome,
    DisputeReport,
    Failure,
    PaymentOutcome,
    PaymentReport,
    PayoutNotice,
    RefundOutcome,
    RefundReport,
    WebhookRefused,
    WebhookReport,
)

# https://docs.stripe.com/payments/paymentintents/lifecycle
_INTENT: Mapping[str, PaymentOutcome] = {
    "requires_confirmation": PaymentOutcome.PREPARED,
    "requires_action": PaymentOutcome.REQUIRES_ACTION,
    "processing": PaymentOutcome.PROCESSING,
    "requires_capture": PaymentOutcome.PROCESSING,
    "succeeded": PaymentOutcome.SUCCEEDED,
    "canceled": PaymentOutcome.CANCELLED,
}
_REFUND: Mapping[str, RefundOutcome] = {
    "succeeded": RefundOutcome.SUCCEEDED,
    "failed": RefundOutcome.FAILED,
    "canceled": RefundOutcome.FAILED,
}
_INTENT_EVENTS = frozenset(
    f"payment_intent.{what}"
    for what in ("succeeded", "payment_failed", "canceled", "requires_action", "processing")
)
_REFUND_EVENTS = frozenset({"charge.refunded"})
_SINGLE_REFUND_EVENTS = frozenset({"refund.updated", "refund.failed", "charge.refund.updated"})
_DISPUTE_EVENTS = frozenset(
    f"charge.dispute.{what}"
    for what in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
)
_DISCONNECTION = "account.application.deauthorized"
_ACCOUNT_EVENTS = frozenset({"account.updated", _DISCONNECTION})
# https://docs.stripe.com/api/disputes/object#dispute_object-status. A warning is an inquiry: no
# money moved, and none moves when it is closed. Every other status is still open.
_DISPUTE: Mapping[str, DisputeOutcome] = {
    "won": DisputeOutcome.WON,
    "warning_closed": DisputeOutcome.WON,
    "prevented": DisputeOutcome.WON,
    "lost": DisputeOutcome.LOST,
}


def report_of_intent(intent: Mapping[str, Any], account: str | None = None) -> PaymentReport:
    """Return the report of a payment intent."""
    currency = str(intent["currency"]).upper()
    outcome = _outcome(intent)
    is_paid = outcome is PaymentOutcome.SUCCEEDED
    amount_received = int(intent.get("amount_received", intent["amount"])) if is_paid else 0
    return PaymentReport(
        gateway_id=str(intent["id"]),
        outcome=outcome,
        amount=from_minor(int(intent["amount"]), currency),
        currency=currency,
        captured=from_minor(amount_received, currency),
        fee=_fee(intent, currency),
        live=bool(intent.get("livemode")),
        account=account,
        transaction_id=our_id(intent, "transaction_id"),
        voucher_id=our_id(intent, "voucher_id"),
        failure=_failure(intent) if outcome is PaymentOutcome.FAILED else None,
        next_action=next_action_of(intent) if outcome is PaymentOutcome.REQUIRES_ACTION else None,
        raw=intent,
    )


def _fee(payment: Mapping[str, Any], currency: str) -> Decimal:
    """Return the operator's fee of an intent or a charge."""
    return from_minor(int(payment.get("application_fee_amount") or 0), currency)


def _outcome(intent: Mapping[str, Any]) -> PaymentOutcome:
    status = str(intent["status"])
    if status == "requires_payment_method":
        # Without an error no attempt was made yet; with one the attempt has failed.
        return (
            PaymentOutcome.FAILED if intent.get("last_payment_error") else PaymentOutcome.PREPARED
        )
    return _INTENT[status]


def _failure(intent: Mapping[str, Any]) -> Failure:
    error = intent.get("last_payment_error") or {}
    code = error.get("decline_code") or error.get("code") or "payment_failed"
    return Failure(str(code), str(error.get("message") or "The payment failed."))


def next_action_of(intent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the payer's page needs: an address to go to, or a secret for Stripe.js."""
    action = intent.get("next_action") or {}
    redirect = action.get("redirect_to_url") or {}
    return {
        "type": str(action.get("type", "use_stripe_sdk")),
        "redirect_url": redirect.get("url"),
        "client_secret": intent.get("client_secret"),
    }


def report_of_refund(refund: Mapping[str, Any], account: str | None = None) -> RefundReport:
    """Return the report of a refund."""
    currency = str(refund["currency"]).upper()
    return RefundReport(
        gateway_id=str(refund["id"]),
        outcome=_REFUND.get(str(refund.get("status")), RefundOutcome.PENDING),
        amount=from_minor(int(refund["amount"]), currency),
        currency=currency,
        refund_id=our_id(refund, "refund_id"),
        payment_id=refund.get("payment_intent"),
        account=account,
        raw=refund,
    )


def report_of_charge(charge: Mapping[str, Any], account: str | None = None) -> PaymentReport | None:
    """Return the report of a payment, of a charge of which something was refunded.

    None for a charge that no intent made.
    """
    if not charge.get("payment_intent"):
        return None
    currency = str(charge["currency"]).upper()
    amount_received = charge.get(
        "amount_captured", charge["amount"] if charge.get("captured") else 0
    )
    refunds = charge.get("refunds")
    return PaymentReport(
        gateway_id=str(charge["payment_intent"]),
        outcome=PaymentOutcome.SUCCEEDED,
        amount=from_minor(int(charge["amount"]), currency),
        currency=currency,
        captured=from_minor(int(amount_received), currency),
        fee=_fee(charge, currency),
        refunded=from_minor(int(charge.get("amount_refunded", 0)), currency),
        refunds=_whole_list(refunds, account) if isinstance(refunds, Mapping) else None,
        live=bool(charge.get("livemode")),
        account=account,
        transaction_id=our_id(charge, "transaction_id"),
        voucher_id=our_id(charge, "voucher_id"),
        raw=charge,
    )


def _whole_list(refunds: Mapping[str, Any], account: str | None) -> tuple[RefundReport, ...] | None:
    """Return the refunds that older API versions list with the charge, if the list is whole."""
    data = refunds.get("data")
    if not isinstance(data, list) or refunds.get("has_more"):
        return None
    return tuple(report_of_refund(refund, account) for refund in data)


def report_of_dispute(dispute: Mapping[str, Any], account: str | None) -> DisputeReport | None:
    """Return the report of a dispute; None for a charge that no intent made."""
    if not dispute.get("payment_intent"):
        return None
    currency = str(dispute["currency"]).upper()
    return DisputeReport(
        gateway_id=str(dispute["id"]),
        payment_id=str(dispute["payment_intent"]),
        outcome=_DISPUTE.get(str(dispute["status"]), DisputeOutcome.OPEN),
        amount=from_minor(int(dispute["amount"]), currency),
        currency=currency,
        reason=dispute.get("reason"),
        live=bool(dispute.get("livemode")),
        account=account,
        raw=dispute,
    )


def report_of_account(account: Mapping[str, Any], *, live: bool) -> AccountReport:
    """Return the report of a connected account: https://docs.stripe.com/api/accounts/object."""
    wants: Mapping[str, Any] = account.get("requirements") or {}
    due = [*(wants.get("past_due") or ()), *(wants.get("currently_due") or ())]
    currency = account.get("default_currency")
    return AccountReport(
        gateway_id=str(account["id"]),
        charges_enabled=bool(account.get("charges_enabled")),
        payouts_enabled=bool(account.get("payouts_enabled")),
        requirements=tuple(dict.fromkeys(map(str, due))),
        disabled_reason=wants.get("disabled_reason"),
        country=account.get("country"),
        currency=str(currency).upper() if currency else None,
        live=live,
    )


def _report_of_account_event(event: Mapping[str, Any]) -> AccountReport | None:
    """Return the report of an event about an account; None for the installation's own account."""
    account, live = account_of(event), bool(event.get("livemode"))
    if account is None:
        return None
    if event["type"] == _DISCONNECTION:
        return AccountReport(account, live=live, is_connected=False)
    return report_of_account({**event["data"]["object"], "id": account}, live=live)


def report_of_event(event: Mapping[str, Any]) -> WebhookReport | None:
    """Return what an event reports, or None; raises WebhookRefused."""
    kind, content = str(event["type"]), event["data"]["object"]
    account = account_of(event)
    try:
        if kind in _INTENT_EVENTS:
            return report_of_intent(content, account)
        if kind in _REFUND_EVENTS:
            return report_of_charge(content, account)
        if kind in _SINGLE_REFUND_EVENTS:
            return report_of_refund(content, account)
        if kind in _DISPUTE_EVENTS:
            return report_of_dispute(content, account)
        if kind in _ACCOUNT_EVENTS:
            return _report_of_account_event(event)
        if kind.startswith("payout."):
            return PayoutNotice(str(content["id"]), account)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise WebhookRefused("the event lacks what its type should have") from error
    return None


def account_of(event: Mapping[str, Any]) -> str | None:
    """Return the connected account that an event is about, or None for the platform's own."""
    account = event.get("account")
    return None if account is None else str(account)


def event_of(body: bytes) -> dict[str, Any]:
    """Parse an event's envelope; raises WebhookRefused when it is not one."""
    try:
        event = json.loads(body.decode())
        content = event["data"]["object"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WebhookRefused("the body is not an event") from error
    labels = [event.get("id"), event.get("type")]
    if not isinstance(content, dict) or not all(
        isinstance(label, str) and 0 < len(label) <= 255 for label in labels
    ):
        raise WebhookRefused("the body is not an event")
    if not _storable(event):
        raise WebhookRefused("the event holds what cannot be stored")
    return dict(event)


def _storable(event: object) -> bool:
    """Return whether PostgreSQL can store it as JSON: no NUL and no half of a surrogate pair."""
    try:
        return "\\u0000" not in json.dumps(event, ensure_ascii=False).encode().decode()
    except UnicodeEncodeError:
        return False


def signed_at(header: str) -> datetime:
    """Return the instant in a signature header; raises WebhookRefused when it is not one."""
    try:
        seconds = next(int(part[2:]) for part in header.split(",") if part.startswith("t="))
        return datetime.fromtimestamp(seconds, UTC)
    except (StopIteration, ValueError, OverflowError, OSError) as error:
        raise WebhookRefused("the signature has no time") from error


def our_id(thing: Mapping[str, Any], name: str) -> int | None:
    """Return an id that we sent to the gateway; None for anything else that is stored there."""
    text = str((thing.get("metadata") or {}).get(name, ""))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        return None
    return int(text)
