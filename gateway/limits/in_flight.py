"""How many requests may be at one service at once: by class of route, and by address.

See docs/decisions/0024-places-of-each-class-and-address.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import UpstreamBusy
from gateway.routes import Quota


@dataclass(frozen=True, slots=True)
class RequestSource:
    """The client of a request: its address (see shared.networks), and whether it is known."""

    network: str
    is_returning: bool = False


@dataclass(slots=True)
class _ClassLimit:
    """The places of one class. The last `reserved` of them are for known clients."""

    limit: int
    reserved: int = 0
    taken: int = 0
    taken_by: dict[str, int] = field(default_factory=dict)

    def has_room(self, source: RequestSource) -> bool:
        """Whether one more may enter.

        An address may have as many places as it leaves free: alone about half, and fewer the more
        addresses there are, so that there is always a place for an address that has none.
        """
        free = self.limit - self.taken - (0 if source.is_returning else self.reserved)
        return free > 0 and self.taken_by.get(source.network, 0) <= free


class InFlightLimit:
    """The places at one service. Each class has its own, which no other class can take."""

    def __init__(self, limit: int, own: Mapping[Quota, int] | None = None) -> None:
        """`own`: the places of each class that has some; the rest of `limit` is for all others."""
        own = own or {}
        rest = limit - sum(own.values())
        self._classes = {quota: _ClassLimit(own.get(quota, rest)) for quota in Quota}
        sign_in = self._classes[Quota.SIGN_IN]
        sign_in.reserved = sign_in.limit // 4

    def acquire(self, quota: Quota, source: RequestSource) -> None:
        """Take a place; `release` gives it back.

        Raises UpstreamBusy (503) at once when there is none: a queue here would only add waiting.
        """
        places, network = self._classes[quota], source.network
        if not places.has_room(source):
            raise UpstreamBusy
        places.taken += 1
        places.taken_by[network] = places.taken_by.get(network, 0) + 1

    def release(self, quota: Quota, source: RequestSource) -> None:
        """Give a place back."""
        places, network = self._classes[quota], source.network
        places.taken -= 1
        places.taken_by[network] -= 1
        if not places.taken_by[network]:
            del places.taken_by[network]
