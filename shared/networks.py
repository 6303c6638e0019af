"""The network of a client's address, by which requests and attempts are counted."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_SUBSCRIBER_BITS = 64
"""The size of the network that one IPv6 subscriber has at least (RFC 6177)."""


@lru_cache(maxsize=8192)
def network_of(address: str | None) -> str:
    """Return the network that one subscriber controls.

    It is an IPv4 address, or the first address of an IPv6 address's /64 without the length
    (`2001:db8:1:2::`). Identity stores this text with its sign-in sessions: do not change it. An
    IPv6 address that maps an IPv4 address counts as the latter. Returns "unknown" for a missing
    address and for a text that is none.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "unknown"
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    host_bits = parsed.max_prefixlen - _SUBSCRIBER_BITS
    return str(IPv6Address(int(parsed) >> host_bits << host_bits))
