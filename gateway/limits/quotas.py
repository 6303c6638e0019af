"""The rate limits: of an address before any other check, of a user after authentication."""

from math import ceil

from gateway.errors import TooManyRequests
from gateway.limits.rate_counters import MemoryCounters, RateLimit, SharedCounters
from gateway.routes import Quota
from gateway.settings import Settings
from shared.networks import network_of


class Quotas:
    """Counts requests and refuses those above a limit."""

    def __init__(self, settings: Settings) -> None:
        self._by_address = {
            Quota.GENERAL: RateLimit.parse("address", settings.address_limit),
            Quota.SIGN_IN: RateLimit.parse("sign-in", settings.sign_in_limit),
            Quota.WEBHOOK: RateLimit.parse("webhook", settings.webhook_limit),
            Quota.CALENDAR: RateLimit.parse("calendar", settings.calendar_limit),
        }
        self._by_user = RateLimit.parse("user", settings.user_limit)
        store = settings.limits_store
        self._local = MemoryCounters()
        self._shared = SharedCounters(store.get_secret_value()) if store else None
        # Counting needs no other process, so it never waits.
        self.are_local = not store

    async def take_from_address(self, quota: Quota, address: str) -> None:
        """Count a request of an address. Raises TooManyRequests (429)."""
        if self._shared is None:
            self.take_from_address_at_once(quota, address)
        else:
            limit = self._by_address[quota]
            _check(limit, await self._shared.hit(limit, network_of(address)))

    def take_from_address_at_once(self, quota: Quota, address: str) -> None:
        """Do the same with counters that are local."""
        limit = self._by_address[quota]
        _check(limit, self._local.hit_at_once(limit, network_of(address)))

    async def take_from_user(self, user_id: int) -> None:
        """Count a request of a user. Raises TooManyRequests (429)."""
        if self._shared is None:
            self.take_from_user_at_once(user_id)
        else:
            _check(self._by_user, await self._shared.hit(self._by_user, str(user_id)))

    def take_from_user_at_once(self, user_id: int) -> None:
        """Do the same with counters that are local."""
        _check(self._by_user, self._local.hit_at_once(self._by_user, str(user_id)))

    async def close(self) -> None:
        """Close the connections to the shared store."""
        if self._shared is not None:
            await self._shared.close()


def _check(limit: RateLimit, wait: float | None) -> None:
    if wait is None:
        return
    seconds = ceil(wait)
    # RFC 9110, and draft-ietf-httpapi-ratelimit-headers-10.
    headers = {
        "Retry-After": str(seconds),
        "RateLimit-Policy": f'"{limit.name}";q={limit.amount};w={limit.period}',
        "RateLimit": f'"{limit.name}";r=0;t={seconds}',
    }
    raise TooManyRequests(headers=headers)
