"""Metrics and the log line of each request. They contain route templates, never paths."""

import asyncio
import logging
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import structlog
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.client.http_exchange import HttpExchange

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RequestCounters(Collector):
    """The metrics of requests, counted by the event loop alone.

    prometheus_client's own metrics take a lock for each change. Together they cost as much as a
    tenth of a forwarded request.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._answers: dict[tuple[str, str, str, int], int] = defaultdict(int)
        # By service: the observations in each bucket, and the sum of all durations.
        self._durations: dict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def count(self, exchange: HttpExchange, method: str, elapsed: float) -> None:
        """Count a completed request; `elapsed` is in seconds."""
        service = exchange.service
        self._answers[service, exchange.template, method, exchange.log_status] += 1
        self._durations[service][bisect_left(_BUCKETS, elapsed)] += 1
        self._seconds[service] += elapsed

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their present values."""
        answers = CounterMetricFamily(
            "carnet_gateway_requests",
            "Answers by service, route and status; 499 when the client went away first",
            labels=["service", "route", "method", "status"],
        )
        for (service, template, method, status), number in self._answers.items():
            answers.add_metric([service, template, method, str(status)], number)
        yield answers
        seconds = HistogramMetricFamily(
            "carnet_gateway_request_seconds",
            "Time from a request's head to the last byte of its answer",
            labels=["service"],
        )
        limits = [*(str(float(limit)) for limit in _BUCKETS), "+Inf"]
        for service, numbers in self._durations.items():
            buckets = list(zip(limits, accumulate(numbers), strict=True))
            seconds.add_metric([service], buckets, self._seconds[service])
        yield seconds
        yield GaugeMetricFamily(
            "carnet_gateway_in_flight", "Requests being answered at this moment", self.in_flight
        )


COUNTERS = RequestCounters()
REGISTRY.register(COUNTERS)


class AccessLog(Protocol):
    """Writes one line for each request."""

    def write(self, exchange: HttpExchange, method: str, elapsed: float) -> None:
        """Write the line of a completed request; `elapsed` is in seconds."""


class _NoLines:
    def write(self, exchange: HttpExchange, method: str, elapsed: float) -> None:
        """Write nothing: the log level is higher than that of these lines."""


class _ConsoleLines:
    def __init__(self) -> None:
        self._log = structlog.get_logger("access")

    def write(self, exchange: HttpExchange, method: str, elapsed: float) -> None:
        """Write the line through structlog, like every other."""
        self._log.info(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=exchange.template,
            status=exchange.log_status,
            duration_ms=round(elapsed * 1000, 2),
            client_address=exchange.client_address,
            user_id=exchange.user_id,
        )


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _JsonLines:
    """Writes directly to standard output, one write for each turn of the event loop.

    The logging libraries would take half as long as forwarding itself. The lines of one turn are
    also formatted together, which takes less time than one at a time between other code.
    """

    def __init__(self) -> None:
        self._completed: list[tuple[int, HttpExchange, str, float]] = []

    def write(self, exchange: HttpExchange, method: str, elapsed: float) -> None:
        """Write the line as JSON, with the time in UTC to the microsecond."""
        if not self._completed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._completed.append((time.time_ns(), exchange, method, elapsed))

    def _flush(self) -> None:
        completed, self._completed = self._completed, []
        sys.stdout.write("".join([_json_line(*request) for request in completed]))
        sys.stdout.flush()


def _json_line(moment: int, exchange: HttpExchange, method: str, elapsed: float) -> str:
    # No field needs escaping: the request id was checked, the route is a template, the address was
    # parsed.
    seconds, nanoseconds = divmod(moment, 1_000_000_000)
    return (
        '{"event":"request","level":"info","service":"gateway","logger":"access",'
        f'"timestamp":"{_second(seconds)}.{nanoseconds // 1000:06d}Z",'
        f'"request_id":"{exchange.request_id}","method":"{method}",'
        f'"route":"{exchange.template}","status":{exchange.log_status},'
        f'"duration_ms":{elapsed * 1000:.2f},"client_address":"{exchange.client_address}",'
        f'"user_id":{"null" if exchange.user_id is None else exchange.user_id}}}\n'
    )


def access_log(*, level: str = "INFO", style: str = "json") -> AccessLog:
    """Return the access log for a log level and a style, json or console."""
    if logging.getLevelName(level) > logging.INFO:
        return _NoLines()
    return _ConsoleLines() if style == "console" else _JsonLines()


def observe(log: AccessLog, exchange: HttpExchange) -> None:
    """Count a completed request and write its log line."""
    elapsed = time.perf_counter() - exchange.started_at
    method: str = exchange.scope["method"]
    if method not in METHODS:
        method = "OTHER"
    COUNTERS.count(exchange, method, elapsed)
    log.write(exchange, method, elapsed)
