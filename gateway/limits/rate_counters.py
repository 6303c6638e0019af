"""Counters of requests in sliding windows: in this process, or in a store that gateways share.

Both weight the previous window by the part of it that lies within the last period, as the `limits`
library does. That library accesses the store. Its own counters in memory check every key at each
hit (1.4 ms with 10,000 clients), which an attacker could use; `MemoryCounters` checks one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import BlockingConnectionPool

log = structlog.get_logger(__name__)

STORE_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
STORE_TIMEOUT = 0.25  # seconds; a slow store must not slow every request down
STORE_CONNECTIONS = 32
STORE_PAUSE = 2.0  # seconds without requests to a store that failed


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many hits a key may have in any `period` seconds; `name` separates the limits."""

    name: str
    amount: int
    period: int

    @classmethod
    def parse(cls, name: str, text: str) -> "RateLimit":
        """Parse the notation of the `limits` library: `100/10 seconds`. Raises ValueError."""
        item = parse(text)
        return cls(name, item.amount, item.get_expiry())

    @property
    def item(self) -> RateLimitItem:
        """Return this limit as an object of the `limits` library."""
        return RateLimitItemPerSecond(self.amount, self.period, namespace=self.name)


class RateCounters(Protocol):
    """Counts hits by key."""

    async def hit(self, limit: RateLimit, key: str) -> float | None:
        """Count a hit and return None, or return the seconds until one more fits."""

    async def close(self) -> None:
        """Close the connections."""


class _Windows:
    """The hits of the current and of the previous period, by key."""

    __slots__ = ("current", "number", "previous")

    def __init__(self) -> None:
        self.number = 0
        self.current: dict[str, int] = {}
        self.previous: dict[str, int] = {}

    def move_to(self, number: int) -> None:
        """Begin another period; the hits of older periods are deleted at once."""
        self.previous = self.current if number == self.number + 1 else {}
        self.current = {}
        self.number = number


class MemoryCounters:
    """Counters of this process alone."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows: dict[str, _Windows] = {}

    async def hit(self, limit: RateLimit, key: str) -> float | None:
        """Count a hit and return None, or return the seconds until one more fits."""
        return self.hit_at_once(limit, key)

    def hit_at_once(self, limit: RateLimit, key: str) -> float | None:
        """Do the same as `hit`, which waits for nothing here."""
        windows = self._windows.get(limit.name)
        if windows is None:
            windows = self._windows[limit.name] = _Windows()
        period = limit.period
        number, elapsed = divmod(self._clock(), period)
        if number != windows.number:
            windows.move_to(int(number))
        current, previous = windows.current.get(key, 0), windows.previous.get(key, 0)
        if current + previous * (1 - elapsed / period) + 1 > limit.amount:
            return _until_room(limit.amount, period, elapsed, current, previous)
        windows.current[key] = current + 1
        return None

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _until_room(amount: int, period: float, elapsed: float, current: int, previous: int) -> float:
    """Return the seconds until the weighted count is so low that one more hit fits."""
    room = amount - 1 - current
    if room >= 0:
        return period * (1 - room / previous) - elapsed
    # Not before the next period, in which these hits are the previous ones.
    return period - elapsed + period * (1 - (amount - 1) / current)


class SharedCounters:
    """Counters that several gateways share in Redis or Valkey.

    While the store cannot be reached, each gateway counts alone: limits protect the services, and
    refusing all requests would not.
    """

    def __init__(self, url: str) -> None:
        # Valkey has the same protocol, so one client library is enough.
        self._pool = BlockingConnectionPool.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            max_connections=STORE_CONNECTIONS,
            timeout=STORE_TIMEOUT,
            socket_timeout=STORE_TIMEOUT,
            socket_connect_timeout=STORE_TIMEOUT,
        )
        storage = RedisStorage(
            "redis://",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="carnet:gateway",
            connection_pool=self._pool,  # type: ignore[arg-type]  # its type hints lack this option
        )
        self._strategy = SlidingWindowCounterRateLimiter(storage)
        self._local = MemoryCounters()
        self._paused_until = 0.0

    async def hit(self, limit: RateLimit, key: str) -> float | None:
        """Count a hit and return None, or return the seconds until one more fits."""
        item = limit.item
        if time.monotonic() < self._paused_until:
            return await self._local.hit(limit, key)
        try:
            if await self._strategy.hit(item, key):
                return None
            stats = await self._strategy.get_window_stats(item, key)
        except (StorageError, OSError, TimeoutError) as error:
            log.warning("limits_store_unreachable", cause=repr(error))
            self._paused_until = time.monotonic() + STORE_PAUSE
            return await self._local.hit(limit, key)
        return max(stats.reset_time - time.time(), 1.0)

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._pool.aclose()
