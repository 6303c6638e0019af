"""A circuit breaker for each instance: one that fails repeatedly receives no requests."""

import time
from collections.abc import Callable

import structlog
from prometheus_client import Gauge

log = structlog.get_logger(__name__)

OPEN = Gauge(
    "carnet_gateway_circuits_open", "Instances of a service that receive no requests", ["service"]
)


class CircuitBreaker:
    """Opens after `failures` attempts in a row without a response, or one refused connection.

    While it is open, one request every `pause` seconds tests whether the instance responds again; a
    response with any status closes the circuit. After a refused connection the first test follows
    after `refusal_pause` seconds, and each later one after twice as long, up to `pause`.
    """

    def __init__(
        self,
        service: str,
        address: str = "",
        *,
        failures: int = 10,
        pause: float = 2,
        refusal_pause: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = {"upstream": service, "address": address}
        self._limit = failures
        self._pause = pause
        self._first_pause = self._refusal_pause = min(refusal_pause, pause)
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0
        self._is_open = False
        self._retired = False
        self._gauge = OPEN.labels(service)

    @property
    def seconds_until_retry(self) -> float:
        """Seconds until a request is admitted; zero if it is admitted now."""
        return max(0.0, self._next_try - self._clock()) if self._is_open else 0.0

    @property
    def is_closed(self) -> bool:
        """Whether every request is admitted."""
        return not (self._is_open or self._retired)

    def admit(self) -> bool:
        """Return whether a request may be sent now. The caller must record its outcome."""
        if not self._is_open:
            return not self._retired
        if self.seconds_until_retry > 0:
            return False
        # This request is the test. If its outcome is never recorded, the next test follows later.
        self._next_try = self._clock() + self._pause
        return True

    def record_success(self) -> None:
        """Record a response."""
        self._failures = 0
        self._refusal_pause = self._first_pause
        if self._is_open:
            self._close()
            log.warning("circuit_closed", **self._names)

    def record_failure(self) -> None:
        """Record that the instance failed or timed out."""
        self._failures += 1
        if self._failures >= self._limit:
            self._open_for(self._pause)

    def record_refusal(self) -> None:
        """Record that the connection was refused, so the instance received nothing."""
        self._open_for(self._refusal_pause)
        self._refusal_pause = min(2 * self._refusal_pause, self._pause)

    def retire(self) -> None:
        """Admit no more requests and report nothing: the instance was removed."""
        self._retired = True
        if self._is_open:
            self._close()

    def _close(self) -> None:
        self._is_open = False
        self._gauge.dec()

    def _open_for(self, pause: float) -> None:
        if self._retired:
            return
        self._next_try = self._clock() + pause
        if not self._is_open:
            self._is_open = True
            self._gauge.inc()
            log.warning("circuit_opened", failures=self._failures, **self._names)
