"""The services' instances: whose turn it is, and who refused a moment ago."""

import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from gateway.circuits import Circuit
from gateway.errors import UpstreamBusy, UpstreamUnavailable
from gateway.routes import Service


class Instance:
    """One process of a service, by its address."""

    __slots__ = ("_clock", "_refused_until", "authority", "host", "port", "tls")

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        parts = urlsplit(address)
        self.tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.tls else 80)
        self.authority = parts.netloc.encode("ascii")  # what its Host header says
        self._clock = clock
        self._refused_until = 0.0

    @property
    def available(self) -> bool:
        """Whether it did not refuse a connection a moment ago."""
        return self._refused_until <= self._clock()

    def leave_alone(self, seconds: float) -> None:
        """Skip this instance for a moment: it refused a connection."""
        self._refused_until = self._clock() + seconds


class Upstream:
    """One service: its instances in turn, and how many requests are with it."""

    def __init__(
        self,
        service: Service,
        addresses: Sequence[str],
        *,
        in_flight_limit: int = 512,
        pause_after_refusal: float = 0.5,
        circuit: Circuit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service = service
        self.circuit = circuit or Circuit(service.value, clock=clock)
        self.in_flight = 0
        self._limit = in_flight_limit
        self._pause = pause_after_refusal
        self._instances = [Instance(address, clock) for address in addresses]
        self._turn = 0

    def in_turn(self) -> Iterator[Instance]:
        """The instances that may be tried, each once, starting with the one whose turn it is.

        Raises UpstreamUnavailable (503) when the last of them was tried in vain.
        """
        start = self._turn
        self._turn = (start + 1) % len(self._instances)
        for instance in self._instances[start:] + self._instances[:start]:
            if instance.available:
                yield instance
        raise UpstreamUnavailable

    def refused(self, instance: Instance) -> None:
        """Remember that an instance could not be connected to."""
        instance.leave_alone(self._pause)

    def enter(self) -> None:
        """Take one of the service's places for a request; `leave` gives it back.

        Raises UpstreamBusy (503) at once when all are taken: a queue here would only add waiting.
        """
        if self.in_flight >= self._limit:
            raise UpstreamBusy
        self.in_flight += 1

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
