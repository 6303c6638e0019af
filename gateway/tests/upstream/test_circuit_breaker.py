"""A service that does not answer gets no requests, is probed, and is used again at once."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from gateway.tests.conftest import DEAD, bearer, open_stack, raw_upstream, read_head
from gateway.upstream.circuit_breaker import CircuitBreaker
from shared.testing import until

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def gauge() -> float | None:
    return REGISTRY.get_sample_value("carnet_gateway_circuits_open", {"service": "test"})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Iterator[CircuitBreaker]:
    circuit = CircuitBreaker("test", failures=3, pause=5, refusal_pause=1, clock=clock)
    yield circuit
    circuit.retire()
    assert gauge() == 0


def fail(circuit: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert circuit.admit()
        circuit.record_failure()


def test_an_answer_between_failures_keeps_it_closed(circuit: CircuitBreaker) -> None:
    for _ in range(5):
        fail(circuit, 2)
        assert circuit.admit()
        circuit.record_success()
    assert gauge() == 0


def test_it_opens_and_sends_retry_after(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, 3)
    assert gauge() == 1
    clock.now += 1.5
    assert not circuit.admit()
    assert circuit.seconds_until_retry == 3.5


def test_one_try_at_a_time(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 5
    assert circuit.admit()
    assert not circuit.admit()
    clock.now += 1
    circuit.record_failure()
    clock.now += 4.9
    assert not circuit.admit()
    clock.now += 0.1
    assert circuit.admit()
    circuit.record_success()
    assert gauge() == 0
    assert all(circuit.admit() for _ in range(3))


def test_a_try_that_never_comes_back_is_followed_by_another(
    circuit: CircuitBreaker, clock: Clock
) -> None:
    fail(circuit, 3)
    clock.now += 5
    assert circuit.admit()
    clock.now += 5
    assert circuit.admit()


def test_a_refused_connection_opens_it_at_once_and_longer_each_time(
    circuit: CircuitBreaker, clock: Clock
) -> None:
    for pause in (1, 2, 4, 5, 5):
        assert circuit.admit()
        circuit.record_refusal()
        assert circuit.seconds_until_retry == pause
        assert not circuit.admit()
        clock.now += pause
    assert circuit.admit()
    circuit.record_success()
    circuit.record_refusal()
    assert circuit.seconds_until_retry == 1


def test_nothing_is_reported_of_a_removed_instance(circuit: CircuitBreaker) -> None:
    fail(circuit, 2)
    circuit.retire()
    circuit.record_failure()
    assert not circuit.admit()
    assert gauge() == 0


async def test_a_hanging_service_costs_only_its_first_callers_their_time() -> None:
    hangs = True

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            if not hangs:
                writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    settings = {"standard_timeout": 1, "circuit_failures": 2, "circuit_pause": 3}
    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,), **settings) as stack:

        async def status() -> int:
            return (await stack.client.get("/api/vouchers/1", headers=bearer())).status_code

        assert [await status() for _ in range(3)] == [504, 504, 503]
        refused = await stack.client.get("/api/vouchers/1", headers=bearer())
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert (await stack.client.get("/api/payments/my", headers=bearer())).status_code == 200
        hangs = False

        async def is_let_in() -> bool:
            return await status() != 503

        await until(is_let_in)
        assert [await status() for _ in range(3)] == [500, 500, 500]


async def test_a_client_that_leaves_does_not_count_against_the_service() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if not arrived.is_set():
            arrived.set()
            await reader.read()
            left.set()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with (
        raw_upstream(handler) as url,
        open_stack(vouchers_url=(url,), circuit_failures=1) as stack,
    ):
        call = asyncio.create_task(stack.client.get("/api/vouchers/1", headers=bearer()))
        await until(arrived.is_set)
        call.cancel()
        await until(left.is_set)
        assert (await stack.client.get("/api/vouchers/1", headers=bearer())).status_code == 200


async def test_a_dead_service_is_reported_alike_with_the_circuit_open() -> None:
    async with open_stack(vouchers_url=(DEAD,), circuit_failures=2) as stack:
        for _ in range(4):
            response = await stack.client.get("/api/vouchers/1", headers=bearer())
            assert response.status_code == 503
            assert response.json()["code"] == "upstream_unavailable"
            assert response.headers["retry-after"].isdigit()
