"""Clients that have signed in before: by the cookie of a device, or by the address.

Only what this gateway has seen itself counts, because it cannot verify identity's cookies: an
answer that sets a device cookie is a sign-in that succeeded. A known client has no more
rights than others: it may only use places that strangers cannot take.
"""

import hashlib
from collections import OrderedDict

from gateway.headers import RawHeaders

# See services/identity/security/device_cookies.py. Browsers enforce the prefixes (RFC 6265bis).
_COOKIE = b"carnet_device"
_COOKIE_NAMES = frozenset({_COOKIE, b"__Host-" + _COOKIE, b"__Secure-" + _COOKIE})
_REMEMBERED = 20_000  # of each kind; the one that was used least recently is forgotten


class ReturningClients:
    """Remembers devices and addresses from which somebody has signed in."""

    def __init__(self, *, remembered: int = _REMEMBERED) -> None:
        self._devices = _LruSet(remembered)
        self._networks = _LruSet(remembered)

    def recognizes(self, cookies: bytes | None, network: str) -> bool:
        """Whether a request's `Cookie` header or its address is known."""
        if network in self._networks:
            return True
        devices = _devices_in(cookies.split(b";")) if cookies else []
        return any(device in self._devices for device in devices)

    def record_sign_in(self, answer: RawHeaders, network: str) -> None:
        """Remember the client, if the answer's headers show that its sign-in has succeeded."""
        cookies = [value.partition(b";")[0] for name, value in answer if name == b"set-cookie"]
        for device in _devices_in(cookies):
            self._devices.add(device)
            self._networks.add(network)


class _LruSet:
    """A set of texts that forgets those it has not seen for longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, item: str) -> bool:
        if item not in self._items:
            return False
        self._items.move_to_end(item)
        return True

    def add(self, item: str) -> None:
        """Remember a text."""
        self._items[item] = None
        self._items.move_to_end(item)
        if len(self._items) > self._size:
            self._items.popitem(last=False)


def _devices_in(cookies: list[bytes]) -> list[str]:
    """The device cookies among `name=value` pairs, as digests: the values are not kept."""
    pairs = (cookie.strip().partition(b"=") for cookie in cookies)
    return [
        hashlib.blake2b(value, digest_size=16).hexdigest()
        for name, _, value in pairs
        if name in _COOKIE_NAMES and value
    ]
