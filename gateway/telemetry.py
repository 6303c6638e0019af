"""What the gateway measures and writes down of each request: route templates, never paths."""

import sys
import time
from functools import lru_cache

import structlog
from prometheus_client import Counter, Gauge, Histogram
from structlog.typing import FilteringBoundLogger

from gateway.exchange import Exchange

REQUESTS = Counter(
    "carnet_gateway_requests_total",
    "Answers by service, route and status; 499 when the client went away first",
    ["service", "route", "method", "status"],
)
SECONDS = Histogram(
    "carnet_gateway_request_seconds",
    "Time from a request's head to the last byte of its answer",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
IN_FLIGHT = Gauge("carnet_gateway_in_flight", "Requests being answered at this moment")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@lru_cache(maxsize=4096)
def _requests(service: str, template: str, method: str, status: int) -> Counter:
    return REQUESTS.labels(service, template, method, str(status))


@lru_cache(maxsize=64)
def _seconds(service: str) -> Histogram:
    return SECONDS.labels(service)


def access_logger(*, level: str = "INFO", style: str = "json") -> FilteringBoundLogger:
    """The logger of the one line per request.

    As JSON it is written straight to standard output: the way through the standard library's
    logging costs 100 µs, as much as half the hop, and a line has only the fields named below.
    """
    if style == "console":
        console: FilteringBoundLogger = structlog.get_logger("access")
        return console
    direct: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stdout),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return direct.bind(service="gateway", logger="access")


def observe(log: FilteringBoundLogger, exchange: Exchange) -> None:
    """Count one finished request and write its line to the log."""
    elapsed = time.perf_counter() - exchange.started_at
    sent: str = exchange.scope["method"]
    method = sent if sent in METHODS else "OTHER"
    _requests(exchange.service, exchange.template, method, exchange.log_status).inc()
    _seconds(exchange.service).observe(elapsed)
    log.info(
        "request",
        request_id=exchange.request_id,
        method=method,
        route=exchange.template,
        status=exchange.log_status,
        duration_ms=round(elapsed * 1000, 2),
        client_address=exchange.client_address,
    )
