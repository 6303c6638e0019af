"""Clients that have signed in before, recognized by a device cookie or by the address.

The gateway cannot verify identity's cookies, so it recognizes only what it observed itself: a
response that sets a device cookie means that a sign-in succeeded. A returning client has no more
rights than others: only the places that are reserved for returning clients.
"""

import hashlib
from collections import OrderedDict

from gateway.headers import RawHeaders

# The cookie of identity; browsers enforce the prefixes (RFC 6265bis).
_COOKIE = b"carnet_device"
_COOKIE_NAMES = frozenset({_COOKIE, b"__Host-" + _COOKIE, b"__Secure-" + _COOKIE})
_CAPACITY = 20_000  # devices and addresses each; the least recently used one is removed


class ReturningClients:
    """Stores the devices and addresses from which users have signed in."""

    def __init__(self, *, capacity: int = _CAPACITY) -> None:
        self._devices = _LruSet(capacity)
        self._networks = _LruSet(capacity)

    def recognizes(self, cookies: bytes | None, network: str) -> bool:
        """Return whether a request's `Cookie` header or its address is known."""
        if network in self._networks:
            return True
        devices = _devices_in(cookies.split(b";")) if cookies else []
        return any(device in self._devices for device in devices)

    def record_sign_in(self, headers: RawHeaders, network: str) -> None:
        """Store the client if the response's headers show that its sign-in succeeded."""
        cookies = [value.partition(b";")[0] for name, value in headers if name == b"set-cookie"]
        for device in _devices_in(cookies):
            self._devices.add(device)
            self._networks.add(network)


class _LruSet:
    """A set of texts of limited size that removes the least recently used one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, item: str) -> bool:
        if item not in self._items:
            return False
        self._items.move_to_end(item)
        return True

    def add(self, item: str) -> None:
        """Add a text."""
        self._items[item] = None
        self._items.move_to_end(item)
        if len(self._items) > self._size:
            self._items.popitem(last=False)


def _devices_in(cookies: list[bytes]) -> list[str]:
    """Return digests of the device cookies among `name=value` pairs; no values are stored."""
    pairs = (cookie.strip().partition(b"=") for cookie in cookies)
    return [
        hashlib.blake2b(value, digest_size=16).hexdigest()
        for name, _, value in pairs
        if name in _COOKIE_NAMES and value
    ]
