"""Tables of this service, by subject."""

from services.payments.models.base import Base
from services.payments.models.disputes import Dispute, DisputeStatus
from services.payments.models.invoices import Invoice, InvoiceKind, InvoiceSeries, SellerChanges
from services.payments.models.payments import Method, PaymentTransaction
from services.payments.models.refunds import Refund, RefundSource, RefundStatus, Repayment
from services.payments.models.webhooks import WebhookEvent, WebhookOutcome

__all__ = [
    "Base",
    "Dispute",
    "DisputeStatus",
    "Invoice",
    "InvoiceKind",
    "InvoiceSeries",
    "Method",
    "PaymentTransaction",
    "Refund",
    "RefundSource",
    "RefundStatus",
    "Repayment",
    "SellerChanges",
    "WebhookEvent",
    "WebhookOutcome",
]
