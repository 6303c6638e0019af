"""Metrics of mail. Labels are templates and outcomes, never an address."""

from prometheus_client import Counter, Gauge, Histogram

MAILS = Counter(
    "carnet_mails_total",
    "Attempts to send a message by outcome: sent, deferred, parked or undeliverable",
    ["template", "outcome"],
)
WAITING = Gauge("carnet_mails_waiting", "Messages that wait to be sent")
PARKED = Gauge("carnet_mails_parked", "Messages that were given up: an operator decides")
OLDEST = Gauge("carnet_mails_oldest_seconds", "Age of the oldest message that waits; 0 if none")
CONNECTED = Gauge("carnet_mail_connected", "1 while the last connection to the SMTP server worked")
LAG = Histogram(
    "carnet_mail_lag_seconds",
    "Time from a message's change to the SMTP server's acceptance",
    buckets=(0.1, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 86400),
)
