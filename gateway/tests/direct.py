"""Requests that the gateway handles without a task, and the same requests in a task."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway.tests.conftest import Stack, bearer, open_stack, raw_upstream, token
from shared.testing import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSE = b""  # in a list of pieces: the service closes the connection
TOKEN = token(exp=int(time.time()) + 86_400)  # all tests of the process use it


@dataclass
class Call:
    """A request as a client sends it. Any service has an idle connection for it already."""

    method: str = "GET"
    path: str = "/api/vouchers/1"
    headers: Sequence[str] = ()
    body: bytes = b""
    token: str | None = TOKEN

    def encode(self, *, in_task: bool) -> bytes:
        """The request's bytes. An absolute target means the same, but always needs a task."""
        origin = "http://gateway" if in_task else ""
        lines = [f"{self.method} {origin}{self.path} HTTP/1.1", "Host: gateway", *self.headers]
        lines.append("X-Request-ID: request-0001")
        if self.token is not None:
            lines.append(f"Authorization: Bearer {self.token}")
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass
class Service:
    """An upstream that answers each request with the pieces of a test, on any connection.

    It answers a warm-up with OK. It counts the gateway's tasks for requests of clients.
    """

    pieces: Sequence[bytes] = (OK,)
    later: Sequence[bytes] | None = None  # for the requests after the first, if they differ
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    connections: int = 0
    left: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.left += 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if b"/warm-up" in head:
            writer.write(OK)
            return True
        self.heads.append(re.sub(rb"host: [^\r]+", b"host: -", head))
        self.bodies.append(body)
        self.tasks.append(tasks_of_requests())
        is_first = self.later is None or len(self.heads) == 1
        for number, piece in enumerate(self.pieces if is_first else self.later or ()):
            if number:
                await asyncio.sleep(0.02)  # so that the gateway receives it separately
            if piece == CLOSE:
                return False
            writer.write(piece)
            await writer.drain()
        return True


class Held(Service):
    """An upstream that answers when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = asyncio.Semaphore(0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/warm-up" not in head:
            self.heads.append(head)
            self.tasks.append(tasks_of_requests())
            await self.permits.acquire()
        number = len(self.heads)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        writer.write(b"ok" if b"/warm-up" in head else b"%02d" % number)
        return True


async def opened(stack: Stack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", stack.port)


def tasks_of_requests() -> int:
    """How many requests of clients are handled in a task of uvicorn at this moment."""
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    cycles = [
        coroutine.cr_frame.f_locals["self"]
        for coroutine in coroutines
        if getattr(coroutine, "__qualname__", "") == "RequestResponseCycle.run_asgi"
    ]
    # The gateway's own requests to identity are answered by uvicorn, too.
    return sum(not cycle.scope["path"].startswith("/internal/") for cycle in cycles)


def requests_under_way() -> float | None:
    return REGISTRY.get_sample_value("carnet_gateway_in_flight")


def places_taken(stack: Stack) -> int:
    """How many requests are at services, as their limits count them."""
    limits = (upstream.in_flight for upstream in stack.gateway.upstreams.values())
    return sum(places.taken for limit in limits for places in limit._classes.values())


async def standstill(count: Callable[[], int], stack: Stack) -> None:
    """Wait until a number remains the same while the gateway answers other requests.

    In each of them the event loop sends and receives everything that can be sent and received.
    """
    before = -1
    while before != count():
        before = count()
        for _ in range(20):
            await stack.client.get("/health")


def sums() -> dict[tuple[str, ...], float]:
    """The gateway's counters of requests, and how many times were observed."""
    names = ("carnet_gateway_requests_total", "carnet_gateway_request_seconds_count")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name in names
    }


@asynccontextmanager
async def behind(service: Service, **settings: Any) -> AsyncIterator[Stack]:
    async with raw_upstream(service) as url, open_stack(vouchers_url=(url,), **settings) as stack:
        yield stack


async def warm_up(stack: Stack) -> None:
    """Let the gateway verify the token and leave one idle connection to the service."""
    response = await stack.client.get("/api/vouchers/warm-up", headers=bearer(TOKEN))
    assert response.text == "ok"


@dataclass
class Outcome:
    """All that one request leaves behind, without times."""

    answer: bytes  # with that of a following request on the same connection
    heads: list[bytes]
    bodies: list[bytes]
    lines: list[dict[str, Any]]
    counted: dict[tuple[str, ...], float]


LOGGER = '"logger":"access"'  # other lines may show source text that has the word
HEALTH = (
    b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: request-0002\r\nConnection: close\r\n\r\n"
)


async def outcome_of(
    request: bytes, stack: Stack, service: Service, capsys: pytest.CaptureFixture[str]
) -> Outcome:
    """Send a request, and then another one on the same connection if it remains open."""
    service.heads, service.bodies, service.tasks = [], [], []
    capsys.readouterr()
    before = sums()
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(request)
    reading = asyncio.ensure_future(_read(reader))
    await until(lambda: sums() != before and requests_under_way() == 0)
    writer.write(HEALTH)
    answer = await reading
    writer.close()
    await until(lambda: requests_under_way() == 0)
    assert places_taken(stack) == 0
    await asyncio.sleep(0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if LOGGER in line]
    for line in lines:
        line.pop("timestamp")
        line.pop("duration_ms")
    counted = {key: value - before.get(key, 0) for key, value in sums().items()}
    return Outcome(
        re.sub(rb"date: [^\r]+", b"date: -", answer),
        service.heads,
        service.bodies,
        lines,
        {key: value for key, value in counted.items() if value},
    )


async def _read(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(65536):
                answer += piece
    except ConnectionError:
        pass
    return answer
