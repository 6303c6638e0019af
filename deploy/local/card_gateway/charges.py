"""Charges: what an attempt to take a payment left. https://docs.stripe.com/api/charges."""

from typing import Any

from deploy.local.card_gateway import application_fees, balance
from deploy.local.card_gateway.call import APPLICATION, Call
from deploy.local.card_gateway.cards import Decline
from deploy.local.card_gateway.parameters import ListParameters, Parameters
from deploy.local.card_gateway.payment_methods import card_of
from deploy.local.card_gateway.store import Resource


class ChargeList(ListParameters):
    """GET /v1/charges."""

    customer: str | None = None
    payment_intent: str | None = None


def create(
    call: Call, intent: Resource, method: Resource, failure: Decline | None = None
) -> Resource:
    """Charge a card for a payment intent, or store that the bank has declined."""
    is_paid = failure is None
    charge = call.create("ch", "charge", _fields(call, intent, method, failure))
    if is_paid:
        fee = charge["application_fee_amount"]
        fees = [balance.processing_fee(charge["amount"])]
        if fee:
            application_fee = application_fees.collect(call, charge, fee)
            charge["application_fee"] = application_fee["id"]
            fees.append(balance.application_fee(fee))
        at_once = card_of(method).is_available_at_once
        transaction = balance.record(
            call, "charge", charge, charge["amount"], fees=fees, is_available=at_once
        )
        call.save(charge, balance_transaction=transaction["id"])
        call.save(method, _is_used=True)
    call.emit("charge.succeeded" if is_paid else "charge.failed", charge)
    return charge


def _fields(
    call: Call, intent: Resource, method: Resource, failure: Decline | None
) -> dict[str, Any]:
    names = ("amount", "currency", "customer", "description", "metadata", "receipt_email")
    nothing = (
        *("application_fee", "balance_transaction", "failure_balance_transaction"),
        *("on_behalf_of", "receipt_url", "transfer_data", "transfer_group"),
    )
    amount = intent["amount"] if failure is None else 0
    return {
        **dict.fromkeys(nothing),
        **{name: intent[name] for name in names},
        "amount_captured": amount,
        "amount_refunded": 0,
        "application": None if call.is_platform else APPLICATION,
        "application_fee_amount": intent["application_fee_amount"],
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": intent["statement_descriptor"] or "LOCAL STACK",
        "captured": failure is None,
        "disputed": False,
        "_is_charged_back": False,
        "failure_code": failure.code if failure else None,
        "failure_message": failure.message if failure else None,
        "fraud_details": {},
        "outcome": _outcome(failure),
        "paid": failure is None,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": method["card"], "type": "card"},
        "refunded": False,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "succeeded" if failure is None else "failed",
    }


def _outcome(failure: Decline | None) -> dict[str, Any]:
    if failure is None:
        return {
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return {
        "network_status": "declined_by_network",
        "reason": failure.decline_code or failure.code,
        "risk_level": "normal",
        "seller_message": "The bank did not return any further details with this decline.",
        "type": "issuer_declined",
    }


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a charge."""
    return call.get("charge", identifier)


def list_all(call: Call, body: ChargeList, _: str) -> Resource:
    """List charges."""
    return call.page(
        "charge",
        "/v1/charges",
        body.query(),
        customer=body.customer,
        payment_intent=body.payment_intent,
    )
