"""Limits of requests: of an address, of a user, at sign-in; alone and with other gateways."""

import asyncio
from typing import Any

import pytest

from gateway.limits.rate_counters import MemoryCounters, RateLimit, SharedCounters
from gateway.tests.conftest import DEAD, Stack, bearer, open_stack, settings_for, token

pytestmark = pytest.mark.anyio

TEN = RateLimit.parse("test", "10/10 seconds")


async def statuses(stack: Stack, count: int, path: str = "/api/vouchers/1", **options: Any) -> Any:
    method = options.pop("method", "GET")
    headers = {**bearer(options.pop("access_token", None)), **options.pop("headers", {})}
    responses = [await stack.client.request(method, path, headers=headers) for _ in range(count)]
    return [response.status_code for response in responses]


async def test_an_address_has_its_limit_and_gets_retry_after() -> None:
    async with open_stack(address_limit="3/minute") as stack:
        assert await statuses(stack, 4) == [200, 200, 200, 429]
        refused = await stack.client.get("/api/payments/my", headers=bearer())
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_requests"
        wait = int(refused.headers["retry-after"])
        assert 0 < wait <= 120
        assert refused.headers["ratelimit-policy"] == '"address";q=3;w=60'
        assert refused.headers["ratelimit"] == f'"address";r=0;t={wait}'
        assert len(stack.upstream.requests) == 3


async def test_a_users_limit_holds_from_every_address() -> None:
    async with open_stack(user_limit="2/minute", trusted_proxies=("127.0.0.1",)) as stack:
        for number, expected in enumerate([200, 200, 429]):
            headers = {"X-Forwarded-For": f"10.0.0.{number}"}
            assert await statuses(stack, 1, headers=headers) == [expected]
        assert await statuses(stack, 1, access_token=token(sub="8")) == [200]


async def test_forged_tokens_count_against_the_address_alone() -> None:
    async with open_stack(address_limit="3/minute", user_limit="1/minute") as stack:
        assert await statuses(stack, 4, access_token="forged") == [401, 401, 401, 429]


async def test_sign_in_and_webhooks_are_classes_of_their_own() -> None:
    async with open_stack(sign_in_limit="1/minute", webhook_limit="2/minute") as stack:
        assert await statuses(stack, 2, "/api/auth/login", method="POST") == [200, 429]
        assert await statuses(stack, 1, "/api/auth/register", method="POST") == [429]
        webhook = "/api/payments/webhooks/stripe"
        assert await statuses(stack, 3, webhook, method="POST") == [200, 200, 429]
        assert await statuses(stack, 1) == [200]
        assert await statuses(stack, 1, "/api/auth/refresh", method="POST") == [200]


async def test_calendar_feeds_are_a_class_of_their_own() -> None:
    async with open_stack(calendar_limit="2/minute") as stack:
        paths = [f"/api/calendars/{letter * 43}.ics" for letter in "abc"]
        answers = [(await statuses(stack, 1, path))[0] for path in paths]
        assert answers == [200, 200, 429]
        assert await statuses(stack, 1) == [200]


async def test_behind_a_trusted_proxy_clients_are_distinguished() -> None:
    async with open_stack(address_limit="1/minute", trusted_proxies=("127.0.0.1",)) as stack:
        one, other = ({"X-Forwarded-For": f"10.0.0.{number}"} for number in (1, 2))
        assert await statuses(stack, 2, headers=one) == [200, 429]
        assert await statuses(stack, 1, headers=other) == [200]


async def test_the_gateways_own_pages_are_not_counted() -> None:
    async with open_stack(address_limit="1/minute") as stack:
        await statuses(stack, 2)
        assert (await stack.client.get("/health")).status_code == 200


@pytest.mark.parametrize("text", ["", "10", "10/fortnight", "ten/minute"])
def test_an_empty_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"limit|granularity"):
        RateLimit.parse("test", text)


async def test_waiting_for_retry_after_is_enough_and_less_is_not() -> None:
    now = 1003.0
    counters = MemoryCounters(lambda: now)
    assert [await counters.hit(TEN, "a") for _ in range(10)] == [None] * 10
    for _ in range(30):
        wait = await counters.hit(TEN, "a")
        assert wait is not None
        now += wait - 0.01
        assert await counters.hit(TEN, "a") is not None
        now += 0.02
        assert await counters.hit(TEN, "a") is None


async def test_no_period_lets_more_than_the_limit_through() -> None:
    now = 0.0
    counters = MemoryCounters(lambda: now)
    passed = []
    for step in range(1000):
        now = step * 0.1
        if await counters.hit(TEN, "a") is None:
            passed.append(now)
    for start in range(90):
        within = [moment for moment in passed if start <= moment < start + 10]
        assert len(within) <= 11  # the weighing assumes evenly spread hits
    assert len(passed) >= 90
    assert await counters.hit(TEN, "b") is None


async def test_keys_are_forgotten() -> None:
    now = 0.0
    counters = MemoryCounters(lambda: now)
    for number in range(1000):
        await counters.hit(TEN, str(number))
    now = 25.0
    await counters.hit(TEN, "a")
    windows = counters._windows["test"]
    assert len(windows.current) + len(windows.previous) == 1


async def test_a_store_that_never_answers_does_not_hold_requests_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    counters = SharedCounters(f"valkey://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(30):
        assert [await counters.hit(TEN, "a") for _ in range(11)][:10] == [None] * 10
    await counters.close()
    server.close()


def test_the_store_must_be_one() -> None:
    with pytest.raises(ValueError, match="must begin with"):
        settings_for(DEAD, limits_store="memcached://127.0.0.1")
