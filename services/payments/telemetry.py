"""Metrics of payments."""

from prometheus_client import Counter, Gauge

SETTLED = Counter("carnet_payments_settled_total", "Payments by the state they reached", ["status"])
QUARANTINED = Counter("carnet_payments_quarantined_total", "Payments set aside for a person")
CONTRADICTIONS = Counter(
    "carnet_payment_contradictions_total", "Reports of a gateway that our books contradict"
)
WEBHOOKS = Counter(
    "carnet_webhooks_total", "Webhooks by gateway and outcome", ["gateway", "outcome"]
)
DISPUTES = Counter("carnet_disputes_total", "Disputes by the state they reached", ["status"])
PAYOUTS = Counter("carnet_payouts_total", "Payouts by the state they reached", ["status"])
PAYOUTS_MISMATCHED = Gauge(
    "carnet_payouts_mismatched", "Payouts that are not the sum of lines that our books have"
)
REFUNDS = Counter("carnet_refunds_total", "Refunds by the state they reached", ["status"])
REPAYMENTS = Counter(
    "carnet_repayments_total",
    "Money that a person must give back or has given back, by reason and status",
    ["reason", "status"],
)
REPAYMENTS_DUE = Gauge(
    "carnet_repayments_due", "Payments whose money a person must give back now", ["reason"]
)
