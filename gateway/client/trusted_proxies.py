"""The client's address, from sources that can be trusted."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class TrustedProxies:
    """The proxies in front of the gateway whose `X-Forwarded-For` is trusted."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ip_network(item) for item in networks)

    def client_address(self, peer: str, forwarded_for: bytes | None) -> str:
        """Return the address of the client: the nearest hop that is not a trusted proxy.

        Each proxy appends to `X-Forwarded-For`, so it is read from the right: the first untrusted
        hop may have invented everything to the left of it.
        """
        if forwarded_for is None or not self._networks or not self._trusts(_parse(peer)):
            return peer
        client = peer
        for hop in reversed(forwarded_for.decode("latin-1").split(",")):
            address = _parse(hop.strip())
            if address is None:
                break
            client = str(address)
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _parse(text: str) -> Address | None:
    """Parse an address, also with a port or in brackets. Return None if it is invalid."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    ipv4 = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return ipv4 or address
