"""Tables of this service and the values of their columns, by subject."""

from services.payments.models.base import Base
from services.payments.models.disputes import Dispute, DisputeStatus
from services.payments.models.invoices import Invoice, InvoiceKind, InvoiceSeries, SellerChanges
from services.payments.models.mails import OutgoingMail
from services.payments.models.payment_accounts import AccountStatus, PaymentAccount
from services.payments.models.payments import (
    ENDED_UNPAID,
    PAID,
    UNFINISHED,
    Method,
    PaymentRow,
    PaymentTransaction,
    Status,
    row_of,
)
from services.payments.models.payouts import Payout, PayoutLine, Reconciliation
from services.payments.models.platform_fees import NO_FEE, FeeRate, PlatformFee
from services.payments.models.refunds import (
    Refund,
    RefundSource,
    RefundStatus,
    Repayment,
    RepaymentReason,
    RepaymentStatus,
)
from services.payments.models.saved_cards import CardStatus, SavedCard
from services.payments.models.webhooks import WebhookEvent, WebhookOutcome

__all__ = [
    "ENDED_UNPAID",
    "NO_FEE",
    "PAID",
    "UNFINISHED",
    "AccountStatus",
    "Base",
    "CardStatus",
    "Dispute",
    "DisputeStatus",
    "FeeRate",
    "Invoice",
    "InvoiceKind",
    "InvoiceSeries",
    "Method",
    "OutgoingMail",
    "PaymentAccount",
    "PaymentRow",
    "PaymentTransaction",
    "Payout",
    "PayoutLine",
    "PlatformFee",
    "Reconciliation",
    "Refund",
    "RefundSource",
    "RefundStatus",
    "Repayment",
    "RepaymentReason",
    "RepaymentStatus",
    "SavedCard",
    "SellerChanges",
    "Status",
    "WebhookEvent",
    "WebhookOutcome",
    "row_of",
]
