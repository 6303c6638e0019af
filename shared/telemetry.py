"""Metrics. Labels are route templates, queues and event types, never a path or personal data."""

import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Histogram(
    "carnet_request_seconds",
    "Time from request to the last byte of its answer",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PUBLISHED = Counter("carnet_events_published_total", "Events the broker confirmed", ["type"])
PUBLISH_LAG = Histogram(
    "carnet_publish_lag_seconds",
    "Time from an event's change to the broker's confirmation",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
)
OUTBOX_FAILURES = Counter("carnet_relay_interruptions_total", "Times the relay had to start over")
RELAY_ACTIVE = Gauge("carnet_relay_active", "1 on the instance whose relay is at work")
HANDLED = Counter(
    "carnet_messages_total",
    "Messages by queue and outcome: handled, skipped, duplicate, retried or parked",
    ["queue", "outcome"],
)
FORGED = Counter(
    "carnet_messages_forged_total",
    "Messages refused because their event is not one of the user who published them",
    ["queue"],
)
HANDLE_LAG = Histogram(
    "carnet_handle_lag_seconds",
    "Time from an event's change to the commit of its effect in a consumer",
    ["queue"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30, 300, 3600, 86400),
)
WAITING = Gauge(
    "carnet_queue_waiting_messages",
    "Messages that wait in a queue, as its consumer saw within the last seconds",
    ["queue"],
)


class RequestMetrics:
    """Pure ASGI middleware that measures every request under its route's template."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_and_record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_record_status)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            elapsed = time.perf_counter() - started
            REQUESTS.labels(scope["method"], route, str(status)).observe(elapsed)
