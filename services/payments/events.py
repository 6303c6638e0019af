"""The events of this service."""

from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.gateways import PayoutStatus
from services.payments.models import (
    AccountStatus,
    CardStatus,
    DisputeStatus,
    Method,
    PaymentAccount,
    PaymentRow,
    PaymentTransaction,
    Reconciliation,
    RepaymentReason,
    RepaymentStatus,
    Status,
    row_of,
)
from shared import denials
from shared.changes import Catalogue, record
from shared.shapes import Shapes, change, new_row

CATALOGUE: Catalogue = {
    ("payment_transaction", "CHARGE"): "payments.payment.created.v1",
    ("payment_transaction", "PROCESS"): "payments.payment.processing.v1",
    ("payment_transaction", "REQUIRE_ACTION"): "payments.payment.requires_action.v1",
    ("payment_transaction", "SUCCEED"): "payments.payment.succeeded.v1",
    ("payment_transaction", "FAIL"): "payments.payment.failed.v1",
    ("payment_transaction", "CANCEL"): "payments.payment.cancelled.v1",
    ("payment_transaction", "QUARANTINE"): "payments.payment.quarantined.v1",
    ("payment_transaction", "REFUND"): "payments.payment.refunded.v1",
    ("invoice", "CREATE"): "payments.invoice.issued.v1",
    ("refund", "CREATE"): "payments.refund.created.v1",
    ("refund", "REFUND"): "payments.refund.succeeded.v1",
    ("refund", "FAIL"): "payments.refund.failed.v1",
    ("refund", "RETURN"): "payments.refund.returned.v1",
    ("repayment", "CREATE"): "payments.repayment.due.v1",
    ("repayment", "REDUCE"): "payments.repayment.reduced.v1",
    ("repayment", "SETTLE"): "payments.repayment.settled.v1",
    ("payout", "CREATE"): "payments.payout.created.v1",
    ("payout", "UPDATE"): "payments.payout.updated.v1",
    ("payout", "PAY"): "payments.payout.paid.v1",
    ("payout", "FAIL"): "payments.payout.failed.v1",
    ("payout", "CANCEL"): "payments.payout.cancelled.v1",
    ("payout", "RECONCILE"): "payments.payout.reconciled.v1",
    ("platform_fee", "SET"): "payments.platform_fee.changed.v1",
    ("dispute", "CREATE"): "payments.dispute.opened.v1",
    ("dispute", "CLOSE"): "payments.dispute.closed.v1",
    ("payment_account", "CREATE"): "payments.payment_account.created.v1",
    ("payment_account", "CONNECT"): "payments.payment_account.connected.v1",
    ("payment_account", "UPDATE"): "payments.payment_account.updated.v1",
    ("payment_account", "DISCONNECT"): "payments.payment_account.disconnected.v1",
    ("saved_card", "CREATE"): "payments.saved_card.created.v1",
    ("saved_card", "REQUIRE_ACTION"): "payments.saved_card.requires_action.v1",
    ("saved_card", "ACTIVATE"): "payments.saved_card.activated.v1",
    ("saved_card", "FAIL"): "payments.saved_card.failed.v1",
    ("saved_card", "REMOVE"): "payments.saved_card.removed.v1",
    ("request", "DENIED"): "payments.request.denied.v1",
}

LISTENERS = ("audit.log", "vouchers.payments")
"""The queues that receive some of them: no event is published before all of them exist."""


class Payment(TypedDict):
    """The fields that every event of a payment has."""

    voucher_id: int
    organization_id: int
    client_id: int
    amount: Decimal
    currency: str
    payment_method: Method
    status: Status


_PAYMENT_FIELDS = tuple(Payment.__annotations__)


class Succeeded(Payment):
    """The invoice that was issued for the payment, and what the operator takes of the payment."""

    invoice_number: str
    platform_fee: Decimal
    completed_at: datetime


class Failed(Payment):
    """The failure as the card gateway reported it."""

    failure_code: str | None
    failure_message: str | None
    completed_at: datetime


class Quarantined(Payment):
    """The contradiction between the gateway's report and our books."""

    reason: str


class Refunded(Payment):
    """One refund, and the sum of all refunds of the payment."""

    refund_id: int
    refunded_amount: Decimal
    credit_note_number: str | None


class OfVoucher(TypedDict):
    """The voucher that was paid."""

    voucher_id: int


class RefundSucceeded(TypedDict):
    """One refund, the sum of all refunds of the payment, and the payment's state after it.

    `quote_id` is the voucher's refund quote that it was made from.
    """

    voucher_id: int
    transaction_id: int
    client_id: int
    amount: Decimal
    currency: str
    quote_id: int | None
    payment_status: Status
    refunded_amount: Decimal
    credit_note_number: str | None


class RefundFailed(TypedDict):
    """A refund that failed, or (`returned`) that was made and did not reach the payer."""

    voucher_id: int
    transaction_id: int
    quote_id: int | None
    amount: Decimal


class RepaymentChanged(TypedDict):
    """A repayment: how much is due of which payment, or was given back by hand, and why."""

    voucher_id: int
    transaction_id: int
    client_id: int
    amount: Decimal
    currency: str
    reason: RepaymentReason
    status: RepaymentStatus


class PayoutChanged(TypedDict):
    """The payout as it is now."""

    gateway_payout_id: str
    amount: Decimal
    currency: str
    status: PayoutStatus


class PayoutReconciled(PayoutChanged):
    """The comparison of a payout with its lines, and of the lines with our books."""

    reconciliation: Reconciliation
    difference: Decimal | None
    unknown_lines: int


class PlatformFeeChanged(TypedDict):
    """What the operator takes of each later card payment of the organization."""

    percent: Decimal
    fixed_amount: Decimal
    fixed_currency: str | None


class DisputeOpened(TypedDict):
    """The voucher whose money the payer's bank claims."""

    voucher_id: int
    status: DisputeStatus


class DisputeClosed(TypedDict):
    """The bank's decision: the money stays (`won`) or is lost (`lost`)."""

    voucher_id: int
    transaction_id: int
    client_id: int
    amount: Decimal
    currency: str
    status: DisputeStatus


class AccountChanged(TypedDict):
    """The account of an organization at a gateway, and whether it may charge and pay out."""

    payment_gateway: str
    gateway_account: str | None
    status: AccountStatus
    live: bool
    currency: str | None
    charges_enabled: bool
    payouts_enabled: bool


_ACCOUNT_FIELDS = tuple(AccountChanged.__annotations__)


class SavedCardChanged(TypedDict):
    """The client and the state of a saved card."""

    organization_id: int
    client_id: int
    status: CardStatus


SHAPES: Shapes = {
    "payments.payment.created.v1": new_row(Payment),
    "payments.payment.processing.v1": change(Payment),
    "payments.payment.requires_action.v1": change(Payment),
    "payments.payment.succeeded.v1": change(Succeeded),
    "payments.payment.failed.v1": change(Failed),
    "payments.payment.cancelled.v1": change(Payment),
    "payments.payment.quarantined.v1": change(Quarantined),
    "payments.payment.refunded.v1": change(Refunded),
    "payments.invoice.issued.v1": new_row(OfVoucher),
    "payments.refund.created.v1": new_row(OfVoucher),
    "payments.refund.succeeded.v1": change(RefundSucceeded),
    "payments.refund.failed.v1": change(RefundFailed),
    "payments.refund.returned.v1": change(RefundFailed),
    "payments.repayment.due.v1": new_row(RepaymentChanged),
    "payments.repayment.reduced.v1": change(RepaymentChanged),
    "payments.repayment.settled.v1": change(RepaymentChanged),
    "payments.payout.created.v1": new_row(PayoutChanged),
    "payments.payout.updated.v1": change(PayoutChanged),
    "payments.payout.paid.v1": change(PayoutChanged),
    "payments.payout.failed.v1": change(PayoutChanged),
    "payments.payout.cancelled.v1": change(PayoutChanged),
    "payments.payout.reconciled.v1": change(PayoutReconciled),
    "payments.platform_fee.changed.v1": change(PlatformFeeChanged),
    "payments.dispute.opened.v1": new_row(DisputeOpened),
    "payments.dispute.closed.v1": change(DisputeClosed),
    "payments.payment_account.created.v1": new_row(AccountChanged),
    "payments.payment_account.connected.v1": change(AccountChanged),
    "payments.payment_account.updated.v1": change(AccountChanged),
    "payments.payment_account.disconnected.v1": change(AccountChanged),
    "payments.saved_card.created.v1": new_row(),
    "payments.saved_card.requires_action.v1": change(SavedCardChanged),
    "payments.saved_card.activated.v1": change(SavedCardChanged),
    "payments.saved_card.failed.v1": change(SavedCardChanged),
    "payments.saved_card.removed.v1": change(SavedCardChanged),
    "payments.request.denied.v1": denials.SHAPE,
}


def payment_fields(payment: PaymentRow) -> dict[str, Any]:
    """Return the fields of `Payment` for an event of a payment."""
    return {name: payment[name] for name in _PAYMENT_FIELDS}


def announce(session: AsyncSession, action: str, payment: PaymentTransaction, **more: Any) -> None:
    """Record a change of a payment; its event has the fields of `Payment` and `more`."""
    record(session, action, payment, **{**payment_fields(row_of(payment)), **more})


def announce_account(session: AsyncSession, action: str, account: PaymentAccount) -> None:
    """Record a change of an account; its event has the fields of `AccountChanged`."""
    record(session, action, account, **{name: getattr(account, name) for name in _ACCOUNT_FIELDS})
