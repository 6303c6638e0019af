"""Places at a service: of each class, for each address, and for returning clients."""

import asyncio
import resource
from collections.abc import Iterable

import httpx
import pytest
from pydantic import ValidationError

from gateway.app import allow_many_connections
from gateway.errors import UpstreamBusy
from gateway.limits.in_flight import InFlightLimit, RequestSource
from gateway.limits.returning_clients import ReturningClients
from gateway.routes import Quota
from gateway.tests.conftest import (
    DEAD,
    Stack,
    open_stack,
    raw_upstream,
    read_head,
    settings_for,
)
from shared.testing import until

pytestmark = pytest.mark.anyio

COOKIE = [(b"set-cookie", b"carnet_device=abc; Max-Age=9; HttpOnly; Path=/api/auth")]


def enter(
    places: InFlightLimit, quota: Quota, networks: Iterable[str], *, is_returning: bool = False
) -> int:
    """Let these addresses ask for a place, one after the other; how many got one."""
    entered = 0
    for network in networks:
        try:
            places.acquire(quota, RequestSource(network, is_returning))
        except UpstreamBusy:
            continue
        entered += 1
    return entered


def addresses(count: int) -> list[str]:
    return [f"10.0.0.{number}" for number in range(count)]


def test_one_address_leaves_places_to_others() -> None:
    places = InFlightLimit(512)
    assert enter(places, Quota.GENERAL, ["greedy"] * 1000) == 257
    assert enter(places, Quota.GENERAL, ["second"] * 1000) == 128
    assert enter(places, Quota.GENERAL, addresses(100)) == 100


def test_each_of_many_greedy_addresses_gets_as_much() -> None:
    places = InFlightLimit(512)
    counts = dict.fromkeys(addresses(7), 0)
    for _ in range(200):
        for network in counts:
            counts[network] += enter(places, Quota.GENERAL, [network])
    assert set(counts.values()) <= {63, 64, 65}
    assert enter(places, Quota.GENERAL, ["late"]) == 1


def test_places_are_given_back() -> None:
    places = InFlightLimit(4)
    assert enter(places, Quota.GENERAL, ["a", "a", "b", "c", "d"]) == 4
    for network in ("a", "a", "b", "c"):
        places.release(Quota.GENERAL, RequestSource(network))
    assert enter(places, Quota.GENERAL, ["a", "a", "b", "c", "d"]) == 4
    assert not places._classes[Quota.SIGN_IN].taken_by


@pytest.mark.parametrize("own", [Quota.SIGN_IN, Quota.WEBHOOK, Quota.CALENDAR])
def test_each_class_keeps_its_places(own: Quota) -> None:
    places = InFlightLimit(512, {own: 64})
    everybody = [f"{network}-{turn}" for turn in range(4) for network in addresses(200)]
    assert enter(places, Quota.GENERAL, everybody) == 448
    assert enter(places, own, everybody) == (48 if own is Quota.SIGN_IN else 64)


def test_known_clients_have_places_that_strangers_cannot_take() -> None:
    places = InFlightLimit(512, {Quota.SIGN_IN: 64})
    assert enter(places, Quota.SIGN_IN, addresses(200)) == 48
    assert enter(places, Quota.SIGN_IN, ["home"] * 200, is_returning=True) == 9
    assert enter(places, Quota.SIGN_IN, addresses(200), is_returning=True) == 7


def test_the_process_may_have_as_many_connections_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        allow_many_connections(2048)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2048
        allow_many_connections(1500)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2048
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("prefix", [b"", b"__Host-", b"__Secure-"])
def test_a_device_is_known_after_a_sign_in_from_everywhere(prefix: bytes) -> None:
    known = ReturningClients()
    cookie = prefix + b"carnet_device=abc"
    assert not known.recognizes(cookie, "elsewhere")
    known.record_sign_in([(b"set-cookie", prefix + COOKIE[0][1])], "home")
    assert known.recognizes(b"theme=dark; " + cookie, "elsewhere")
    assert known.recognizes(None, "home")
    for other in (b"carnet_device=abd", b"x_carnet_device=abc", b"carnet_device=", b";;="):
        assert not known.recognizes(other, "elsewhere")


def test_an_answer_without_a_device_cookie_teaches_nothing() -> None:
    known = ReturningClients()
    known.record_sign_in([(b"set-cookie", b"other=abc"), (b"content-type", b"a/b")], "home")
    known.record_sign_in([(b"set-cookie", b"carnet_device=; Max-Age=0")], "home")
    assert not known.recognizes(b"other=abc", "home")


def test_what_is_remembered_is_bounded() -> None:
    known = ReturningClients(capacity=2)
    for number in (b"1", b"2", b"1", b"3"):
        known.record_sign_in([(b"set-cookie", b"carnet_device=" + number)], number.decode())
    assert [known.recognizes(None, network) for network in "123"] == [True, False, True]


async def test_an_owner_signs_in_beside_strangers_who_hold_every_place() -> None:
    """The whole path: the gateway recognizes a device by identity's answer."""

    async def identity(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            if b"x-hold" in head:
                await reader.read()
            cookie = b"set-cookie: %b\r\n" % COOKIE[0][1] if b"x-right" in head else b""
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n" % cookie)

    settings = {"blind": True, "trusted_proxies": ("127.0.0.1",), "sign_in_in_flight_limit": 8}
    async with raw_upstream(identity) as url, open_stack(identity_url=(url,), **settings) as stack:

        async def sign_in(source: str, **headers: str) -> httpx.Response:
            forwarded = {"X-Forwarded-For": source, **headers}
            return await stack.client.post("/api/auth/login", headers=forwarded)

        first = await sign_in("10.9.9.9", **{"X-Right": "1"})
        cookie = first.headers["set-cookie"].partition(";")[0]
        stack.client.cookies.clear()
        held = [asyncio.create_task(sign_in(source, **{"X-Hold": "1"})) for source in addresses(6)]
        await until(lambda: _taken(stack) == 6)
        stranger = await sign_in("10.5.5.5")
        assert (stranger.status_code, stranger.json()["code"]) == (503, "upstream_busy")
        assert (await sign_in("10.9.9.9")).status_code == 200
        assert (await sign_in("10.7.7.7", Cookie=cookie)).status_code == 200
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await until(lambda: _taken(stack) == 0)


def _taken(stack: Stack) -> int:
    upstream = next(iter(stack.gateway.upstreams.values()))
    return upstream.in_flight._classes[Quota.SIGN_IN].taken


@pytest.mark.parametrize(
    "own", ["sign_in_in_flight_limit", "webhook_in_flight_limit", "calendar_in_flight_limit"]
)
def test_the_places_of_one_class_must_leave_some_to_all_others(own: str) -> None:
    with pytest.raises(ValidationError, match="GATEWAY_IN_FLIGHT_LIMIT"):
        settings_for(DEAD, in_flight_limit=100, **{own: 100})
    assert settings_for(DEAD, in_flight_limit=101, **{own: 100}).in_flight_limit == 101
