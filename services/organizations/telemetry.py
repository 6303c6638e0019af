"""The metrics of this service."""

from prometheus_client import Counter, Gauge

SETTLED = Counter(
    "carnet_foundings_settled_total",
    "Interrupted foundings by outcome: completed, abandoned, resumed by a request, or failed",
    ["outcome"],
)
FAILING = Gauge(
    "carnet_foundings_failing",
    "Interrupted foundings whose settling has failed and will be tried again",
)
