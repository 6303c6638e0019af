"""Addresses that an outsider may name: the public internet and nothing else."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.public_addresses import check_url, is_public

INSIDE = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.7",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.8",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::7f00:1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2a00::5efe:a00:1",
    "2a00::200:5efe:a00:1",
    "no address",
    "",
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_on_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "2a00:1450::1"])
def test_what_is_on_the_public_internet_is_accepted(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_nothing_that_python_calls_not_global_is_accepted(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert address.is_global or not is_public(str(address))


@given(st.ip_addresses(v=4), st.sampled_from(["::", "::ffff:", "64:ff9b::", "64:ff9b:1::"]))
def test_no_address_that_carries_another_is_accepted(
    carried: ipaddress.IPv4Address, prefix: str
) -> None:
    assert not is_public(f"{prefix}{carried}")


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://logos.example.org/a.png", "logos.example.org", 443, "logos.example.org"),
        ("http://logos.example.org", "logos.example.org", 80, "logos.example.org"),
        ("http://logos.example.org:443/", "logos.example.org", 443, "logos.example.org:443"),
        ("https://żółw.example.org./ł", "xn--w-uga1v8h.example.org", 443, None),
        ("https://[2606:4700::1111]/a", "2606:4700::1111", 443, "[2606:4700::1111]"),
        ("https://8.8.8.8/a", "8.8.8.8", 443, "8.8.8.8"),
    ],
)
def test_a_public_url_is_taken_apart(url: str, host: str, port: int, authority: str | None) -> None:
    checked = check_url(url)
    assert (checked.host, checked.port) == (host, port)
    assert checked.authority == (authority or host)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "//example.org/a",
        "ftp://example.org/a",
        "javascript:alert(1)",
        "https://",
        "https://example.org/a\n.png",
        "https://example.org/a b",
        "https://example.org:8443/a",
        "http://example.org:22/",
        "https://user@example.org/",
        "https://user:secret@example.org/",
        "https://@localhost/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost/",
        "http://payments/",
        "http://payments.internal/",
        "http://printer.local/",
        "http://router.home.arpa/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://１２７.0.0.1/",
        "http://127.0.0.1./",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|valid|should"):
        check_url(url)
