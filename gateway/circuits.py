"""A circuit for each service: one that fails again and again is left alone for a moment."""

import time
from collections.abc import Callable
from math import ceil

import structlog
from prometheus_client import Gauge

from gateway.errors import UpstreamUnavailable

log = structlog.get_logger(__name__)

OPEN = Gauge("carnet_gateway_circuit_open", "1 while a service is left alone", ["service"])


class Circuit:
    """Opens after `failures` attempts in a row that got no answer.

    While it is open requests are refused at once, but for one every `pause` seconds that tries
    whether the service answers again; an answer, whatever its status, closes the circuit.
    """

    def __init__(
        self,
        service: str,
        *,
        failures: int = 10,
        pause: float = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0
        self._gauge = OPEN.labels(service)
        self._gauge.set(0)

    def enter(self) -> None:
        """Begin an attempt. Raises UpstreamUnavailable (503) while the circuit is open."""
        if self._failures < self._limit:
            return
        now = self._clock()
        if now < self._next_try:
            raise UpstreamUnavailable(retry_after=max(1, ceil(self._next_try - now)))
        # This attempt is the try. Should it never come back, the next one follows in its time.
        self._next_try = now + self._pause

    def answered(self) -> None:
        """The service answered."""
        if not self._failures:
            return
        if self._failures >= self._limit:
            log.warning("circuit_closed", upstream=self._service)
            self._gauge.set(0)
        self._failures = 0

    def failed(self) -> None:
        """The service could not be connected to, broke off, or let the time run out."""
        self._failures += 1
        if self._failures < self._limit:
            return
        self._next_try = self._clock() + self._pause
        if self._failures == self._limit:
            log.warning("circuit_opened", upstream=self._service, failures=self._failures)
            self._gauge.set(1)
