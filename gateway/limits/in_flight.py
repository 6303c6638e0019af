"""The limit of requests that are at one service at the same time, by route class and by address.

The right of one request to be at a service is called a place.
See docs/decisions/0024-places-of-each-class-and-address.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import UpstreamBusy
from gateway.routes import ROUTES, Quota, Service
from gateway.settings import Settings


@dataclass(slots=True)
class RequestSource:
    """The client of a request: its address (see shared.networks), and whether it is known."""

    network: str
    is_returning: bool = False


@dataclass(slots=True)
class _ClassLimit:
    """The places of one class. The last `reserved` of them are for returning clients."""

    limit: int
    reserved: int = 0
    taken: int = 0
    taken_by: dict[str, int] = field(default_factory=dict)

    def has_room(self, source: RequestSource) -> bool:
        """Return whether one more request of this source gets a place.

        An address may have as many places as it leaves free: about half of them if it is alone, and
        fewer with more addresses. So an address that has no place always finds one.
        """
        free = self.limit - self.taken - (0 if source.is_returning else self.reserved)
        return free > 0 and self.taken_by.get(source.network, 0) <= free


class InFlightLimit:
    """The places at one service. Each class has its own, which no other class can take."""

    def __init__(self, limit: int, own: Mapping[Quota, int] | None = None) -> None:
        """`own`: the places of each class that has its own; the other classes share the rest."""
        own = own or {}
        rest = limit - sum(own.values())
        self._classes = {quota: _ClassLimit(own.get(quota, rest)) for quota in Quota}
        sign_in = self._classes[Quota.SIGN_IN]
        sign_in.reserved = sign_in.limit // 4

    @classmethod
    def from_settings(cls, service: Service, settings: Settings) -> "InFlightLimit":
        """Return a service's places; a class has its own if the service has routes of it."""
        classes = {route.quota for route in ROUTES if route.service is service}
        own = {
            Quota.SIGN_IN: settings.sign_in_in_flight_limit,
            Quota.WEBHOOK: settings.webhook_in_flight_limit,
            Quota.CALENDAR: settings.calendar_in_flight_limit,
        }
        return cls(
            settings.in_flight_limit,
            {quota: limit for quota, limit in own.items() if quota in classes},
        )

    def acquire(self, quota: Quota, source: RequestSource) -> None:
        """Take a place; the caller must `release` it.

        Raises UpstreamBusy (503) at once if none is free: a queue here would only add latency.
        """
        places, network = self._classes[quota], source.network
        if not places.has_room(source):
            raise UpstreamBusy
        places.taken += 1
        places.taken_by[network] = places.taken_by.get(network, 0) + 1

    def release(self, quota: Quota, source: RequestSource) -> None:
        """Return a place."""
        places, network = self._classes[quota], source.network
        places.taken -= 1
        places.taken_by[network] -= 1
        if not places.taken_by[network]:
            del places.taken_by[network]
