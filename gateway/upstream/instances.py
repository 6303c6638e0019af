"""The instances of each service: which exist, and which one receives the next request."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from math import ceil
from urllib.parse import urlsplit

from gateway.errors import UpstreamUnavailable
from gateway.limits.in_flight import InFlightLimit
from gateway.routes import Service
from gateway.settings import Settings
from gateway.upstream.circuit_breaker import CircuitBreaker


@dataclass(frozen=True, slots=True)
class UpstreamOrigin:
    """An address from the settings. Its name may resolve to several processes."""

    name: str
    port: int
    tls: bool
    authority: bytes  # the value of the Host header

    @classmethod
    def parse(cls, address: str) -> "UpstreamOrigin":
        """Parse `http://name:port` or `https://name:port`."""
        parts = urlsplit(address)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(parts.hostname or "", port, tls, parts.netloc.encode("ascii"))

    @property
    def is_numeric(self) -> bool:
        """Whether the address is an IP address, so that no name needs to be resolved."""
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True


class Instance:
    """One process of a service, identified by its address."""

    __slots__ = ("circuit", "host", "origin")

    def __init__(self, origin: UpstreamOrigin, host: str, circuit: CircuitBreaker) -> None:
        self.origin = origin
        self.host = host  # IP address, or the name until it has been resolved
        self.circuit = circuit


CircuitBreakerFactory = Callable[[str], CircuitBreaker]
"""Returns the circuit breaker of the instance at an address (`host:port`)."""


class Upstream:
    """One service: its instances, and the limit of requests that are with it at the same time."""

    def __init__(
        self,
        service: Service,
        addresses: Sequence[str],
        *,
        in_flight: InFlightLimit,
        circuit: CircuitBreakerFactory | None = None,
    ) -> None:
        self.service = service
        self.in_flight = in_flight
        self.origins = tuple(UpstreamOrigin.parse(address) for address in addresses)
        self._circuit = circuit or (lambda address: CircuitBreaker(service.value, address))
        self._instances = [self._instance(origin, origin.name) for origin in self.origins]
        self._turn = 0

    def _instance(self, origin: UpstreamOrigin, host: str) -> Instance:
        return Instance(origin, host, self._circuit(f"{host}:{origin.port}"))

    def update(self, addresses: Mapping[UpstreamOrigin, Sequence[str]]) -> list[Instance]:
        """Replace the instances by those at the resolved addresses; return the removed ones.

        An origin without a resolved address retains its instances.
        """
        current = {(instance.origin, instance.host): instance for instance in self._instances}
        keys = [
            (origin, host)
            for origin in self.origins
            for host in addresses.get(origin) or [host for of, host in current if of == origin]
        ]
        self._instances = [current[key] if key in current else self._instance(*key) for key in keys]
        removed_instances = [instance for key, instance in current.items() if key not in keys]
        for instance in removed_instances:
            instance.circuit.retire()
        return removed_instances

    def available_instances(self) -> Iterator[Instance]:
        """Yield each instance that its circuit breaker admits, in turn.

        Raises UpstreamUnavailable (503) when the caller asks for another one and none is left.
        """
        for instance in self.all_instances():
            if instance.circuit.admit():
                yield instance
        pause = min(instance.circuit.seconds_until_retry for instance in self._instances)
        raise UpstreamUnavailable(retry_after=max(1, ceil(pause)))

    def all_instances(self) -> list[Instance]:
        """Return all instances whatever the state of their circuits, the next in turn first."""
        start = self._turn % len(self._instances)
        self._turn = start + 1
        return self._instances[start:] + self._instances[:start]

    @property
    def instance_in_turn(self) -> Instance:
        """The instance that the next request is sent to, if its circuit breaker admits it."""
        return self._instances[self._turn % len(self._instances)]

    def end_turn(self) -> None:
        """Pass the turn on: a request was sent to the instance in turn."""
        self._turn = self._turn % len(self._instances) + 1


Upstreams = Mapping[Service, Upstream]


def upstreams_of(settings: Settings) -> Upstreams:
    """Return every service with its configured addresses and limits."""
    return {
        service: Upstream(
            service,
            settings.instances(service),
            in_flight=InFlightLimit.from_settings(service, settings),
            circuit=partial(
                CircuitBreaker,
                service.value,
                failures=settings.circuit_failures,
                pause=settings.circuit_pause,
                refusal_pause=settings.pause_after_refusal,
            ),
        )
        for service in Service
    }
