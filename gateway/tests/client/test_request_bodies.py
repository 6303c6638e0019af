"""Bodies that arrive slowly, or never: they use no place, little memory, and not for long."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import ValidationError

from gateway.client.request_bodies import MINIMUM_CHARGE, BodyLimits, RequestBodies
from gateway.errors import BodyTooSlow, TooManyBodies
from gateway.headers import RequestHead
from gateway.tests.client.test_requests import LOGIN, parts
from gateway.tests.conftest import DEAD, Stack, bearer, open_stack, settings_for
from shared.media_types import BodyTooLarge
from shared.testing import until

pytestmark = pytest.mark.anyio

BEHIND_A_PROXY = {"trusted_proxies": ("127.0.0.1",)}


class Slow:
    """A request under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def is_answered(self) -> bool:
        return bool(self.reader._buffer)  # type: ignore[attr-defined]

    async def status(self) -> int:
        async with asyncio.timeout(20):
            return parts(await self.reader.readuntil(b"\r\n\r\n"))[0]


async def begin(stack: Stack, sent: bytes, *, source: str = "", length: int = 100_000) -> Slow:
    """Begin a sign-in whose body does not arrive whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    origin = f"X-Forwarded-For: {source}\r\n".encode() if source else b""
    writer.write(LOGIN + origin + b"Content-Length: %d\r\n\r\n" % length + sent)
    await writer.drain()
    return Slow(reader, writer)


@asynccontextmanager
async def slow_bodies(stack: Stack, count: int, sent: bytes = b"") -> AsyncIterator[list[Slow]]:
    """As many sign-ins under way, each from its own address where a proxy may state it."""
    begun = [await begin(stack, sent, source=f"10.1.{n // 250}.{n % 250}") for n in range(count)]
    try:
        yield begun
    finally:
        for slow in begun:
            slow.writer.close()


async def test_a_body_that_has_not_arrived_takes_no_place() -> None:
    settings = {
        "in_flight_limit": 3,
        "sign_in_in_flight_limit": 2,
        "webhook_in_flight_limit": 1,
        "calendar_in_flight_limit": 1,
    }
    async with open_stack(**settings) as stack, slow_bodies(stack, 70):
        for _ in range(10):
            assert (await stack.client.post("/api/auth/login", content=b"{}")).status_code == 200
        assert (await stack.client.post("/api/auth/refresh", content=b"{}")).status_code == 200
        assert stack.upstream.bodies == [b"{}"] * 11


async def test_beside_five_hundred_slow_bodies_others_are_served() -> None:
    async with open_stack(**BEHIND_A_PROXY) as stack, slow_bodies(stack, 500, b"x" * 1000):
        for _ in range(50):
            assert (await stack.client.post("/api/auth/login", content=b"{}")).status_code == 200


async def test_a_body_at_less_than_the_least_rate_is_refused_in_time() -> None:
    async with open_stack(body_timeout=0.5, body_rate=1000) as stack:
        slow = await begin(stack, b"")
        began = time.monotonic()
        while not slow.is_answered:
            slow.writer.write(b"x")
            await asyncio.sleep(0.05)
        assert await slow.status() == 408
        assert time.monotonic() - began < 5, "one byte after the other buys no time"
        slow.writer.close()
    assert stack.upstream.requests == []


async def test_a_body_at_the_least_rate_is_received() -> None:
    async with open_stack(body_timeout=0.3, body_rate=1000) as stack:
        slow = await begin(stack, b"", length=20_000)
        for _ in range(20):
            slow.writer.write(b"x" * 1000)
            await asyncio.sleep(0.05)
        assert await slow.status() == 200
        slow.writer.close()
        assert stack.upstream.bodies == [b"x" * 20_000]


async def test_no_body_may_take_longer_than_the_longest_time() -> None:
    async with open_stack(body_timeout=0.3, body_rate=1, body_longest=0.6) as stack:
        slow = await begin(stack, b"x" * 50_000)
        began = time.monotonic()
        while not slow.is_answered:
            slow.writer.write(b"x" * 100)
            await asyncio.sleep(0.02)
        assert await slow.status() == 408
        assert time.monotonic() - began < 5
        slow.writer.close()


async def test_a_token_that_is_revoked_while_the_body_arrives_counts_no_longer() -> None:
    async with open_stack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        token = bearer()["Authorization"].encode()
        writer.write(
            b"POST /api/vouchers/purchase HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\n"
            b"Content-Length: 4\r\n\r\nha" % token
        )
        await until(lambda: stack.gateway.bodies.memory_used > 0)
        stack.gateway.revocations.end_sessions(["session-1"])
        writer.write(b"lf")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()
        assert stack.upstream.requests == []


# The memory, without sockets.


class Client:
    """What a server's `receive` gives: the pieces that a test sends."""

    def __init__(self, bodies: RequestBodies, network: str = "a", length: int = 0) -> None:
        self.pieces: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        head = RequestHead(content_length=length or None, chunked=not length)
        self.incoming = bodies.incoming(self._receive, head, network)
        self.task = asyncio.create_task(self._read())
        self.carried = asyncio.Event()

    async def _receive(self) -> dict[str, object]:
        piece, more = await self.pieces.get()
        return {"type": "http.request", "body": piece, "more_body": more}

    async def _read(self) -> int:
        with self.incoming as incoming:
            size = len(await incoming.receive())
            await self.carried.wait()
            return size

    async def send(self, size: int, *, more: bool = True) -> None:
        self.pieces.put_nowait((b"x" * size, more))
        for _ in range(5):
            await asyncio.sleep(0)


def bodies(memory: int, *, size: int = 1_000_000) -> RequestBodies:
    return RequestBodies(
        BodyLimits(size=size, memory=memory, timeout=30, rate=1000, max_seconds=60)
    )


async def outcome(client: Client) -> type[BaseException] | int:
    client.carried.set()
    async with asyncio.timeout(10):
        try:
            return await client.task
        except (BodyTooLarge, BodyTooSlow, TooManyBodies) as error:
            return type(error)


async def test_memory_never_exceeds_its_bound_and_the_oldest_gives_way() -> None:
    memory = 40 * MINIMUM_CHARGE
    all_bodies = bodies(memory)
    clients = [Client(all_bodies, f"network-{number}") for number in range(8)]
    for _ in range(8):
        for client in clients:
            await client.send(MINIMUM_CHARGE)
            assert all_bodies.memory_used <= memory
    done = [client.task.done() for client in clients]
    assert done == sorted(done, reverse=True), "the first ones gave way"
    assert 0 < sum(done) < len(clients)
    for client in clients:
        await client.send(1, more=False)
    results = [await outcome(client) for client in clients]
    assert results == [TooManyBodies if evicted else 8 * MINIMUM_CHARGE + 1 for evicted in done]
    assert all_bodies.memory_used == 0


async def test_an_address_has_a_share_and_takes_none_of_the_others() -> None:
    all_bodies = bodies(40 * MINIMUM_CHARGE)
    other = Client(all_bodies, "other")
    await other.send(MINIMUM_CHARGE)
    greedy = [Client(all_bodies, "greedy") for _ in range(50)]
    for client in greedy:
        await client.send(10)
    assert all_bodies.memory_used == 11 * MINIMUM_CHARGE
    assert [client.task.done() for client in greedy] == [True] * 40 + [False] * 10
    assert not other.task.done()
    for client in (*greedy, other):
        await client.send(1, more=False)
        await outcome(client)
    assert all_bodies.memory_used == 0


async def test_a_small_body_gets_in_although_memory_is_full_of_bodies_under_way() -> None:
    all_bodies = bodies(8 * MINIMUM_CHARGE)
    full = [Client(all_bodies, f"network-{number}") for number in range(4)]
    for client in full:
        await client.send(MINIMUM_CHARGE)
        await client.send(MINIMUM_CHARGE, more=False)
    assert all_bodies.memory_used == 8 * MINIMUM_CHARGE
    large, small = Client(all_bodies, "late"), Client(all_bodies, "later")
    await large.send(100)
    await small.send(100)
    await small.send(100, more=False)
    assert await outcome(small) == 200
    assert await outcome(large) is TooManyBodies
    assert [await outcome(client) for client in full] == [2 * MINIMUM_CHARGE] * 4
    assert all_bodies.memory_used == 0


async def test_a_body_that_gave_way_takes_the_memory_of_no_other() -> None:
    all_bodies = bodies(8 * MINIMUM_CHARGE)
    first, second = Client(all_bodies), Client(all_bodies)
    await first.send(10)
    await second.send(10)
    third = Client(all_bodies)  # takes the first one's memory before the next piece is read
    await first.send(3 * MINIMUM_CHARGE)
    assert [client.task.done() for client in (first, second, third)] == [True, False, False]
    for client in (second, third):
        await client.send(1, more=False)
    assert [await outcome(client) for client in (second, third)] == [11, 1]
    assert await outcome(first) is TooManyBodies
    assert all_bodies.memory_used == 0


@pytest.mark.parametrize("pieces", [(101,), (50, 51), (100, 0, 1)])
@pytest.mark.parametrize("length", [0, 101])
async def test_a_body_over_its_limit_is_refused(pieces: tuple[int, ...], length: int) -> None:
    all_bodies = bodies(8 * MINIMUM_CHARGE, size=100)
    client = Client(all_bodies, length=length)
    for number, size in enumerate(pieces):
        await client.send(size, more=number + 1 < len(pieces))
    assert await outcome(client) is BodyTooLarge
    assert all_bodies.memory_used == 0


async def test_a_request_that_ends_early_leaves_nothing_behind() -> None:
    all_bodies = bodies(8 * MINIMUM_CHARGE)
    client = Client(all_bodies)
    await client.send(10)
    client.task.cancel()
    await asyncio.gather(client.task, return_exceptions=True)
    assert all_bodies.memory_used == 0
    assert not all_bodies._memory_used_by
    assert not all_bodies._arriving
    assert not all_bodies._arriving_of


def test_the_memory_must_hold_the_largest_body() -> None:
    with pytest.raises(ValidationError, match="GATEWAY_BODY_MEMORY"):
        settings_for(DEAD, body_memory=1_000_000)
