"""What this service publishes."""

from shared.changes import Catalogue

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
