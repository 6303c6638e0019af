"""The steps of a payment: which states may follow which, and what a gateway's report leads to.

Every report of a gateway, in an answer, a webhook or to the reconciler, goes through `judge`. It
only moves forward: a repeated, late, reordered or contradictory report changes nothing. Staff and
timers make some of the same steps (paid by hand, failed, cancelled). A `PaymentStep` describes what
a step changes; the database's trigger holds every step to `NEXT`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from services.payments.gateways import Failure, PaymentOutcome, PaymentReport
from services.payments.models import ENDED_UNPAID, Status
from shared.db import now

_ENDS = {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.QUARANTINED}

NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.REQUIRES_ACTION} | _ENDS),
    Status.PROCESSING: frozenset({Status.REQUIRES_ACTION} | _ENDS),
    Status.REQUIRES_ACTION: frozenset(_ENDS),
    Status.SUCCEEDED: frozenset({Status.PARTIALLY_REFUNDED, Status.REFUNDED}),
    Status.PARTIALLY_REFUNDED: frozenset({Status.REFUNDED}),
    Status.REFUNDED: frozenset(),
    # Money taken after the end pays for nothing: a person must see it and give it back.
    Status.FAILED: frozenset({Status.QUARANTINED}),
    Status.CANCELLED: frozenset({Status.QUARANTINED}),
    Status.QUARANTINED: frozenset(),
}
"""Every allowed step; the database's trigger refuses the rest as well."""

_MEANING: Mapping[PaymentOutcome, Status] = {
    PaymentOutcome.PROCESSING: Status.PROCESSING,
    PaymentOutcome.REQUIRES_ACTION: Status.REQUIRES_ACTION,
    PaymentOutcome.SUCCEEDED: Status.SUCCEEDED,
    PaymentOutcome.FAILED: Status.FAILED,
    PaymentOutcome.CANCELLED: Status.CANCELLED,
}


_ACTIONS: Mapping[Status, str] = {
    Status.PROCESSING: "PROCESS",
    Status.REQUIRES_ACTION: "REQUIRE_ACTION",
    Status.CANCELLED: "CANCEL",
}


@dataclass(frozen=True, slots=True)
class ExpectedPayment:
    """A payment as our books have it; `live` is None where there is no gateway.

    `account` is the connected account that it is charged on, None for the installation's own.
    """

    amount: Decimal
    currency: str
    live: bool | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state that a report leads to, and the reason of a quarantine."""

    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentStep:
    """A step of a payment: the columns that it changes, and its event.

    `details` are what the event has beside the fields of every payment.
    """

    action: str
    status: Status
    columns: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def with_columns(self, **columns: Any) -> "PaymentStep":
        """Return the step with more columns, which its event does not name."""
        return replace(self, columns={**self.columns, **columns})


def succeed(captured: Decimal) -> PaymentStep:
    """Return the step of a payment that was paid."""
    completed_at = now()
    return PaymentStep(
        "SUCCEED",
        Status.SUCCEEDED,
        {"captured_amount": captured, "completed_at": completed_at},
        {"completed_at": completed_at},
    )


def quarantine(reason: str, captured: Decimal) -> PaymentStep:
    """Return the step that sets a payment aside: the gateway and our books do not agree."""
    columns = {"quarantine_reason": reason, "captured_amount": captured, "completed_at": now()}
    return PaymentStep("QUARANTINE", Status.QUARANTINED, columns, {"reason": reason})


def fail(failure: Failure) -> PaymentStep:
    """Return the step that ends an unfinished payment without money."""
    columns = {
        "failure_code": failure.code,
        "failure_message": failure.message,
        "completed_at": now(),
    }
    return PaymentStep("FAIL", Status.FAILED, columns, columns)


def cancel() -> PaymentStep:
    """Return the step that ends an unfinished payment which no gateway has."""
    return PaymentStep("CANCEL", Status.CANCELLED, {"completed_at": now()})


def step_of(verdict: Verdict, report: PaymentReport) -> PaymentStep:
    """Return the step that a gateway's report makes."""
    match verdict.status:
        case Status.SUCCEEDED:
            step = succeed(report.captured)
        case Status.QUARANTINED:
            step = quarantine(verdict.reason or "", report.captured)
        case Status.FAILED:
            step = fail(report.failure or Failure("payment_failed", "It failed."))
        case status:
            step = PaymentStep(_ACTIONS[status], status)
    return step.with_columns(
        gateway_response=dict(report.raw),
        next_action=dict(report.next_action) if report.next_action else None,
    )


def judge(current: Status, expected: ExpectedPayment, report: PaymentReport) -> Verdict | None:
    """Return the state that a gateway's report leads to; None when it changes nothing."""
    contradiction = contradiction_of(expected, report)
    if contradiction is not None:
        verdict = Verdict(Status.QUARANTINED, contradiction)
        # A contradiction changes a finished payment only if money was taken.
        if current in ENDED_UNPAID and report.captured == 0:
            return None
    elif current in ENDED_UNPAID and report.captured > 0:
        verdict = Verdict(Status.QUARANTINED, f"the money was taken after the payment {current}")
    elif report.outcome in _MEANING:
        verdict = Verdict(_MEANING[report.outcome])
    else:
        return None
    return verdict if verdict.status in NEXT[current] else None


def contradiction_of(expected: ExpectedPayment, report: PaymentReport) -> str | None:
    """Return how a report contradicts our books (amount, currency, mode, account), or None."""
    is_paid = report.outcome is PaymentOutcome.SUCCEEDED
    amount = report.captured if is_paid else report.amount
    if report.currency != expected.currency:
        return f"currency {report.currency} instead of {expected.currency}"
    if report.amount != expected.amount or amount != expected.amount:
        return f"amount {report.amount}, taken {report.captured}, instead of {expected.amount}"
    if expected.live is not None and report.live != expected.live:
        return "live mode instead of test mode" if report.live else "test mode instead of live mode"
    if report.account != expected.account:
        own = "the installation's own"
        return f"account {report.account or own} instead of {expected.account or own}"
    return None


def after_refund(captured: Decimal, refunded: Decimal) -> Status:
    """Return the state of a paid payment after refunds of this sum."""
    return Status.REFUNDED if refunded >= captured else Status.PARTIALLY_REFUNDED
