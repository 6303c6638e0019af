"""Disputes: https://docs.stripe.com/api/disputes.

A dispute takes the amount and a fee from the balance when it is opened; an inquiry
(`warning_needs_response`) takes nothing. A won dispute returns the amount and not the fee.
"""

from typing import Any, Literal, get_args

from deploy.local.card_gateway import balance
from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.errors import StripeError
from deploy.local.card_gateway.parameters import (
    Fields,
    ListParameters,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.store import Resource

Decision = Literal["won", "lost", "warning_closed", "under_review"]
Reason = Literal[
    "credit_not_processed",
    "duplicate",
    "fraudulent",
    "general",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
]
_CLOSED = ("won", "lost", "warning_closed")
_DAYS_TO_RESPOND = 7
_DAY = 86_400


class DisputeEvidence(Fields):
    """The only evidence of tests: https://docs.stripe.com/testing#disputes."""

    uncategorized_text: str | None = None


class DisputeUpdate(Parameters):
    """POST /v1/disputes/{id}."""

    evidence: DisputeEvidence | None = None
    metadata: MetadataChange | None = None
    submit: bool = True


class DisputeList(ListParameters):
    """GET /v1/disputes."""

    charge: str | None = None
    payment_intent: str | None = None


def open_dispute(
    call: Call, charge: Resource, amount: int, reason: str, *, is_inquiry: bool = False
) -> Resource:
    """Open a dispute of a charge; raises StripeError if its amount is not in the charge."""
    if amount > charge["amount_captured"] or charge["_is_charged_back"]:
        message = "The dispute is greater than the charge, or the charge is disputed already."
        raise StripeError(400, message, param="amount")
    dispute = call.create("dp", "dispute", _fields(call, charge, amount, reason, is_inquiry))
    call.save(charge, disputed=True)
    call.emit("charge.dispute.created", dispute)
    if not is_inquiry:
        fee = balance.Fee("stripe_fee", balance.DISPUTE_FEE, "Dispute fee")
        transaction = balance.record(
            call, "adjustment", dispute, -amount, fees=[fee], category="dispute", is_available=True
        )
        call.save(charge, _is_charged_back=True)
        call.save(dispute, balance_transactions=[transaction])
        call.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def _fields(
    call: Call, charge: Resource, amount: int, reason: str, is_inquiry: bool
) -> dict[str, Any]:
    return {
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "evidence": {"uncategorized_text": None},
        "evidence_details": {
            "due_by": call.now + _DAYS_TO_RESPOND * _DAY,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": is_inquiry,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": charge["payment_method_details"]["card"]["brand"]},
            "type": "card",
        },
        "reason": reason,
        "status": "warning_needs_response" if is_inquiry else "needs_response",
    }


def decide(call: Call, dispute: Resource, status: Decision) -> None:
    """Give a dispute its next status; raises StripeError if it is closed or that does not fit."""
    before = dispute["status"]
    is_inquiry = before.startswith("warning_")
    if before in _CLOSED or (status == "warning_closed") is not is_inquiry:
        message = f"The dispute's status is {before}: it cannot become {status}."
        raise StripeError(400, message, param="status")
    call.save(dispute, status=status)
    if status not in _CLOSED:
        call.emit("charge.dispute.updated", dispute, {"status": before})
        return
    if status == "won":
        transaction = balance.record(
            call,
            "adjustment",
            dispute,
            dispute["amount"],
            category="dispute_reversal",
            is_available=True,
        )
        call.save(call.get("charge", dispute["charge"]), _is_charged_back=False)
        transactions = [*dispute["balance_transactions"], transaction]
        call.save(dispute, balance_transactions=transactions)
        call.emit("charge.dispute.funds_reinstated", dispute)
    call.emit("charge.dispute.closed", dispute, {"status": before})


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a dispute."""
    return call.get("dispute", identifier)


def update(call: Call, body: DisputeUpdate, identifier: str) -> Resource:
    """Submit evidence: the texts `winning_evidence` and `losing_evidence` decide at once."""
    dispute = call.get("dispute", identifier)
    call.save(dispute, metadata=changed_metadata(dispute["metadata"], body.metadata))
    text = body.evidence.uncategorized_text if body.evidence else None
    if text is None:
        return dispute
    if dispute["status"] in _CLOSED:
        raise StripeError(400, "This dispute is already closed.")
    details = dispute["evidence_details"] | {"has_evidence": True}
    if body.submit:
        details["submission_count"] += 1
    call.save(dispute, evidence={"uncategorized_text": text}, evidence_details=details)
    decision = {"winning_evidence": "won", "losing_evidence": "lost"}.get(text, "under_review")
    if dispute["status"].startswith("warning_"):
        decision = "warning_closed"
    if body.submit and decision in get_args(Decision):
        decide(call, dispute, decision)  # type: ignore[arg-type]
    return dispute


def close(call: Call, _: Parameters, identifier: str) -> Resource:
    """Accept that a dispute is lost."""
    dispute = call.get("dispute", identifier)
    if dispute["status"] in _CLOSED:
        raise StripeError(400, "This dispute is already closed.")
    decide(call, dispute, "warning_closed" if dispute["is_charge_refundable"] else "lost")
    return dispute


def list_all(call: Call, body: DisputeList, _: str) -> Resource:
    """List disputes."""
    return call.page(
        "dispute",
        "/v1/disputes",
        body.query(),
        charge=body.charge,
        payment_intent=body.payment_intent,
    )
