"""The services' instances: which there are, whose turn it is, and who is left alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from math import ceil
from urllib.parse import urlsplit

from gateway.errors import UpstreamUnavailable
from gateway.limits.in_flight import InFlightLimit
from gateway.routes import Service
from gateway.upstream.circuit_breaker import CircuitBreaker


@dataclass(frozen=True, slots=True)
class UpstreamOrigin:
    """An address as the settings have it; behind a name there may be several processes."""

    name: str
    port: int
    tls: bool
    authority: bytes  # what the Host header says

    @classmethod
    def parse(cls, address: str) -> "UpstreamOrigin":
        """Read `http://name:port`."""
        parts = urlsplit(address)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(parts.hostname or "", port, tls, parts.netloc.encode("ascii"))

    @property
    def is_numeric(self) -> bool:
        """Whether there is no name to look up."""
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True


class Instance:
    """One process of a service, by its address."""

    __slots__ = ("circuit", "host", "origin")

    def __init__(self, origin: UpstreamOrigin, host: str, circuit: CircuitBreaker) -> None:
        self.origin = origin
        self.host = host  # where to connect to: the name itself until it has been looked up
        self.circuit = circuit


CircuitBreakerFactory = Callable[[str], CircuitBreaker]
"""Makes the circuit of the instance at an address."""


class Upstream:
    """One service: its instances in turn, and the places for requests that are with it."""

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

    def update(self, found: Mapping[UpstreamOrigin, Sequence[str]]) -> list[Instance]:
        """Take what was found behind the names; returns the instances that are there no longer.

        Of a name about which nothing was found the last known instances stay.
        """
        known = {(instance.origin, instance.host): instance for instance in self._instances}
        wanted = [
            (origin, host)
            for origin in self.origins
            for host in found.get(origin) or [host for of, host in known if of == origin]
        ]
        self._instances = [
            known[place] if place in known else self._instance(*place) for place in wanted
        ]
        gone = [instance for place, instance in known.items() if place not in wanted]
        for instance in gone:
            instance.circuit.retire()
        return gone

    def available_instances(self) -> Iterator[Instance]:
        """The instances that may be tried, each once, starting with the one whose turn it is.

        Raises UpstreamUnavailable (503) when the last of them was tried in vain.
        """
        for instance in self.all_instances():
            if instance.circuit.admit():
                yield instance
        rest = min(instance.circuit.seconds_until_retry for instance in self._instances)
        raise UpstreamUnavailable(retry_after=max(1, ceil(rest)))

    def all_instances(self) -> list[Instance]:
        """Return all instances, whatever their circuits say, the one whose turn it is first."""
        start = self._turn % len(self._instances)
        self._turn = start + 1
        return self._instances[start:] + self._instances[:start]
