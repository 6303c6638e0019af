"""A circuit for each instance of a service: one that fails again and again is left alone."""

import time
from collections.abc import Callable

import structlog
from prometheus_client import Gauge

log = structlog.get_logger(__name__)

OPEN = Gauge(
    "carnet_gateway_circuits_open", "How many instances of a service are left alone", ["service"]
)


class CircuitBreaker:
    """Opens after `failures` attempts in a row that got no answer, or one refused connection.

    While it is open no requests go there, but for one every `pause` seconds that tries whether the
    instance answers again; an answer, whatever its status, closes the circuit. After a refusal the
    first try comes after `refusal_pause`, and each later one after twice as long. Seconds.
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
        """Seconds until a request may go there; zero when it may now."""
        return max(0.0, self._next_try - self._clock()) if self._is_open else 0.0

    def admit(self) -> bool:
        """Begin an attempt, if one may go there now."""
        if not self._is_open:
            return not self._retired
        if self.seconds_until_retry > 0:
            return False
        # This attempt is the try. Should it never come back, the next one follows in its time.
        self._next_try = self._clock() + self._pause
        return True

    def record_success(self) -> None:
        """The instance answered."""
        self._failures = 0
        self._refusal_pause = self._first_pause
        if self._is_open:
            self._close()
            log.warning("circuit_closed", **self._names)

    def record_failure(self) -> None:
        """The instance broke off, or let the time run out."""
        self._failures += 1
        if self._failures >= self._limit:
            self._open_for(self._pause)

    def record_refusal(self) -> None:
        """The instance could not be connected to: it received nothing, and will not just now."""
        self._open_for(self._refusal_pause)
        self._refusal_pause = min(2 * self._refusal_pause, self._pause)

    def retire(self) -> None:
        """The instance is there no longer: nothing goes there, and nothing is told of it."""
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
