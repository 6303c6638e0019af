"""Who is asking: the client's address, from sources that can be trusted."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class TrustedProxies:
    """The proxies in front of the gateway whose `X-Forwarded-For` is believed."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ip_network(item) for item in networks)

    def client_address(self, peer: str, forwarded_for: bytes | None) -> str:
        """The address of the client: the nearest hop that is not one of the trusted proxies.

        `X-Forwarded-For` grows to the right, so it is read from there: everything left of the
        first untrusted hop was written by that hop and may be invented.
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
    """An address, also with a port or in brackets as some proxies write it; None when neither."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
