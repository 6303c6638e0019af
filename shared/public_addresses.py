"""Checks of URLs and IP addresses from users, before one of our processes connects to them.

A user's URL must not let one of our processes connect to our own network. The form of the URL is
checked when it is stored (`check_url`, without a network), the IP address each time it is used
(`is_public`), because the name may resolve to another address later.

Networks: the IANA registries of special-purpose addresses for IPv4
(https://www.iana.org/assignments/iana-ipv4-special-registry) and IPv6
(https://www.iana.org/assignments/iana-ipv6-special-registry), with multicast and with every form in
which an IPv6 address contains an IPv4 address. `ipaddress.is_global` is true for several of them.
"""

import ipaddress
from dataclasses import dataclass

from pydantic import HttpUrl, TypeAdapter

PORTS = frozenset({80, 443})

_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network, RFC 791
            "10.0.0.0/8",  # private, RFC 1918
            "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
            "127.0.0.0/8",  # loopback, RFC 1122
            "169.254.0.0/16",  # link-local and clouds' metadata, RFC 3927
            "172.16.0.0/12",  # private, RFC 1918
            "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
            "192.0.2.0/24",  # documentation, RFC 5737
            "192.31.196.0/24",  # AS112, RFC 7535
            "192.52.193.0/24",  # multicast tunnels, RFC 7450
            "192.88.99.0/24",  # 6to4 relays, RFC 7526
            "192.168.0.0/16",  # private, RFC 1918
            "192.175.48.0/24",  # AS112, RFC 7534
            "198.18.0.0/15",  # benchmarks, RFC 2544
            "198.51.100.0/24",  # documentation, RFC 5737
            "203.0.113.0/24",  # documentation, RFC 5737
            "224.0.0.0/4",  # multicast, RFC 5771
            "240.0.0.0/4",  # reserved and broadcast, RFC 1112
        ),
    )
)

# Everything that is not global unicast is refused: ::1, ::/96 (IPv4-compatible), ::ffff:0:0/96
# (IPv4-mapped), 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), 100::/64, fc00::/7, fe80::/10, fec0::/10,
# ff00::/8, and networks that are not assigned yet.
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments with Teredo, RFC 2928 and 4380
            "2001:db8::/32",  # documentation, RFC 3849
            "2002::/16",  # 6to4, RFC 3056
            "2620:4f:8000::/48",  # AS112, RFC 7534
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""Bits 64 to 95 of an address whose last 32 are an IPv4 address, RFC 5214, section 6.1."""

# RFC 6761, RFC 6762, RFC 8375, RFC 7686, and https://www.icann.org for `internal`.
_LOCAL_DOMAINS = ("localhost", "local", "internal", "home.arpa", "onion", "invalid")

_HTTP_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """A URL that was checked. `text` is its normal form; `host` has no brackets around IPv6."""

    text: str
    scheme: str
    host: str
    port: int
    authority: str
    """The value of the header `Host`."""


def is_public(address: str) -> bool:
    """Return whether a text is an IP address of the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _IPV4)
    if parsed.scope_id is not None or parsed not in _IPV6_UNICAST:
        return False
    has_ipv4 = int(parsed) >> 32 & 0xFFFF_FFFF in _ISATAP
    return not has_ipv4 and not any(parsed in network for network in _IPV6)


def check_url(url: str) -> PublicUrl:
    """Return a URL whose form allows a request on a user's behalf. No name is resolved.

    Raises ValueError with the rule that the URL breaks.
    """
    parsed = _parsed(url)
    host, port = (parsed.host or "").rstrip("."), parsed.port or 0
    if port not in PORTS:
        raise ValueError("must be an address at port 80 or 443")
    check_host(host.strip("[]"), is_ipv6=host.startswith("["))
    default = 443 if parsed.scheme == "https" else 80
    return PublicUrl(
        text=str(parsed),
        scheme=parsed.scheme,
        host=host.strip("[]"),
        port=port,
        authority=host if port == default else f"{host}:{port}",
    )


def check_web_address(url: str) -> str:
    """Return an http or https address that a browser may open, on whatever network it is.

    Raises ValueError with the rule that the address breaks.
    """
    _parsed(url)
    return url


def _parsed(url: str) -> HttpUrl:
    # The parser below removes line breaks and tabs, and a browser shows them.
    if not url.isprintable() or " " in url:
        raise ValueError("must be an address without spaces and control characters")
    parsed = _HTTP_URL.validate_python(url)
    if parsed.username is not None or parsed.password is not None:
        raise ValueError("must be an address without a user name or password")
    return parsed


def check_host(host: str, *, is_ipv6: bool) -> None:
    """Raise ValueError unless a host is a public IP address or may be a public name."""
    # A host whose last label is a number is an IPv4 address: https://url.spec.whatwg.org/#host-parsing
    is_ipv4 = host.rpartition(".")[2].isdigit()
    if is_ipv6 or is_ipv4:
        if not is_public(host):
            raise ValueError("must be an address on the public internet")
        return
    is_local = any(host == domain or host.endswith(f".{domain}") for domain in _LOCAL_DOMAINS)
    if "." not in host or is_local:
        raise ValueError("must name a host on the public internet")
