"""Refunds: https://docs.stripe.com/api/refunds."""

from typing import Any, Literal

from pydantic import Field

from deploy.local.card_gateway import application_fees, balance
from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.errors import StripeError, invalid
from deploy.local.card_gateway.parameters import (
    ListParameters,
    Metadata,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.payment_methods import card_of
from deploy.local.card_gateway.store import Resource


class RefundCreate(Parameters):
    """POST /v1/refunds."""

    amount: int | None = Field(default=None, ge=1)
    charge: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    payment_intent: str | None = None
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None
    refund_application_fee: bool = False


class RefundUpdate(Parameters):
    """POST /v1/refunds/{id}."""

    metadata: MetadataChange | None = None


class RefundList(ListParameters):
    """GET /v1/refunds."""

    charge: str | None = None
    payment_intent: str | None = None


def charge_of(call: Call, charge: str | None, intent: str | None) -> Resource:
    """Return the charge of one of two parameters; raises StripeError if nothing was paid."""
    if (charge is None) == (intent is None):
        raise invalid("Provide one of charge and payment_intent.", "charge", "parameter_missing")
    if charge is None:
        charge = call.get("payment_intent", str(intent), "payment_intent")["latest_charge"]
    resource = call.get("charge", charge, "charge") if charge else None
    if resource is None or not resource["paid"]:
        message = "This PaymentIntent does not have a successful charge to refund."
        raise invalid(message, "payment_intent")
    return resource


def create(call: Call, body: RefundCreate, _: str) -> Resource:
    """Refund a charge, or a part of it; raises StripeError if less is left."""
    charge = charge_of(call, body.charge, body.payment_intent)
    amount = _refundable(charge, body.amount)
    if body.refund_application_fee and not charge["application_fee"]:
        message = f"Charge {charge['id']} has no application fee to refund."
        raise invalid(message, "refund_application_fee")
    method = call.get("payment_method", charge["payment_method"])
    refund = call.create("re", "refund", _fields(body, charge, amount, card_of(method).refund))
    fee_part = (
        application_fees.give_back(call, charge, amount) if body.refund_application_fee else 0
    )
    fees = [balance.application_fee(-fee_part)] if fee_part else []
    transaction = balance.record(call, "refund", refund, -amount, fees=fees)
    call.save(refund, balance_transaction=transaction["id"])
    total = charge["amount_refunded"] + amount
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    call.save(charge, amount_refunded=total, refunded=total == charge["amount"])
    call.emit("refund.created", refund)
    call.emit("charge.refunded", charge, before)
    return refund


def _refundable(charge: Resource, amount: int | None) -> int:
    """Return the amount to refund; raises StripeError if less is left."""
    remaining = charge["amount_captured"] - charge["amount_refunded"]
    name = charge["id"]
    if charge["_is_charged_back"]:
        message = f"Charge {name} has been charged back; cannot issue a refund."
        raise invalid(message, code="charge_disputed")
    if remaining == 0:
        message = f"Charge {name} has already been refunded."
        raise invalid(message, code="charge_already_refunded")
    if amount is not None and amount > remaining:
        message = (
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({remaining})"
        )
        raise invalid(message, "amount")
    return amount or int(remaining)


def _fields(body: RefundCreate, charge: Resource, amount: int, status: str) -> dict[str, Any]:
    card = {"reference_status": "pending", "reference_type": None, "type": "refund"}
    return {
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "currency": charge["currency"],
        "destination_details": {"card": card, "type": "card"},
        "metadata": body.metadata,
        "payment_intent": charge["payment_intent"],
        "reason": body.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }


def settle(call: Call, refund: Resource, status: str, reason: str | None = None) -> None:
    """Be the bank: a pending refund succeeds, or any fails and its money returns.

    https://docs.stripe.com/refunds#failed-refunds
    """
    if status == refund["status"] or refund["status"] in ("failed", "canceled"):
        message = f"The refund's status is {refund['status']}: it cannot become {status}."
        raise StripeError(400, message, param="status")
    before = {"status": refund["status"]}
    changes: dict[str, Any] = {"status": status}
    if status == "failed":
        transaction = balance.record(call, "refund_failure", refund, refund["amount"])
        changes["failure_balance_transaction"] = transaction["id"]
        changes["failure_reason"] = reason or "unknown"
        charge = call.get("charge", refund["charge"])
        total = charge["amount_refunded"] - refund["amount"]
        call.save(charge, amount_refunded=total, refunded=False)
    call.save(refund, **changes)
    call.emit("refund.updated", refund, before)
    call.emit("charge.refund.updated", refund, before)
    if status == "failed":
        call.emit("refund.failed", refund)


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a refund."""
    return call.get("refund", identifier)


def update(call: Call, body: RefundUpdate, identifier: str) -> Resource:
    """Change metadata."""
    refund = call.get("refund", identifier)
    before = {"metadata": refund["metadata"]}
    call.save(refund, metadata=changed_metadata(refund["metadata"], body.metadata))
    call.emit("refund.updated", refund, before)
    return refund


def list_all(call: Call, body: RefundList, _: str) -> Resource:
    """List refunds."""
    if body.charge:
        call.get("charge", body.charge, "charge")
    if body.payment_intent:
        call.get("payment_intent", body.payment_intent, "payment_intent")
    return call.page(
        "refund",
        "/v1/refunds",
        body.query(),
        charge=body.charge,
        payment_intent=body.payment_intent,
    )
