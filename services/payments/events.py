"""What this service publishes."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import PaymentTransaction
from shared.changes import Catalogue, record

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
}


def announce(session: AsyncSession, action: str, payment: PaymentTransaction, **more: Any) -> None:
    """Record a change of a payment; its event always says which payment of what it is."""
    record(
        session,
        action,
        payment,
        **{
            "voucher_id": payment.voucher_id,
            "organization_id": payment.organization_id,
            "client_id": payment.client_id,
            "amount": payment.amount,
            "currency": payment.currency,
            "payment_method": payment.payment_method,
            "status": payment.status,
            **more,
        },
    )
