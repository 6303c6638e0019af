"""The events that the webhook endpoints of a local stack receive (docs/payments.md)."""

EVENTS = (
    *(f"payment_intent.{what}" for what in ("succeeded", "payment_failed", "canceled")),
    *(f"payment_intent.{what}" for what in ("requires_action", "processing")),
    *("charge.refunded", "refund.updated", "refund.failed"),
    *(f"charge.dispute.{what}" for what in ("created", "updated", "closed")),
    *(f"charge.dispute.funds_{what}" for what in ("withdrawn", "reinstated")),
)
CONNECT_EVENTS = (
    *EVENTS,
    *("account.updated", "account.application.deauthorized"),
    *(f"payout.{what}" for what in ("created", "updated", "paid", "failed", "canceled")),
    "payout.reconciliation_completed",
)
