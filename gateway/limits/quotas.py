"""The rate limits: of an address before any other check, of a user after authentication."""

from math import ceil

from gateway.errors import TooManyRequests
from gateway.limits.rate_counters import MemoryCounters, RateCounters, RateLimit, SharedCounters
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
        }
        self._by_user = RateLimit.parse("user", settings.user_limit)
        store = settings.limits_store
        self._counters: RateCounters = (
            SharedCounters(store.get_secret_value()) if store else MemoryCounters()
        )
        # Counting needs no other process, so it never waits.
        self.are_local = not store

    async def take_from_address(self, quota: Quota, address: str) -> None:
        """Count a request of an address. Raises TooManyRequests (429)."""
        await self._take(self._by_address[quota], network_of(address))

    async def take_from_user(self, user_id: int) -> None:
        """Count a request of a user. Raises TooManyRequests (429)."""
        await self._take(self._by_user, str(user_id))

    async def close(self) -> None:
        """Close the connections to the shared store."""
        await self._counters.close()

    async def _take(self, limit: RateLimit, key: str) -> None:
        wait = await self._counters.hit(limit, key)
        if wait is not None:
            seconds = ceil(wait)
            # RFC 9110, and draft-ietf-httpapi-ratelimit-headers-10.
            headers = {
                "Retry-After": str(seconds),
                "RateLimit-Policy": f'"{limit.name}";q={limit.amount};w={limit.period}',
                "RateLimit": f'"{limit.name}";r=0;t={seconds}',
            }
            raise TooManyRequests(headers=headers)
