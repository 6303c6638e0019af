"""Connections that break: at the service, at the client, before, during and after the answer."""

import asyncio
import re

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.tests.conftest import Stack, bearer, open_stack, raw_upstream, read_head
from shared.testing import until

pytestmark = pytest.mark.anyio

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n"


@pytest.mark.parametrize("head", [LENGTH, CHUNKED])
async def test_an_answer_that_breaks_off_is_not_a_short_success(head: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(head + b"x" * 5000)
        await writer.drain()
        await asyncio.sleep(0.05)

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        with pytest.raises(httpx.RemoteProtocolError):
            await stack.client.get("/api/vouchers/1", headers=bearer())
        raw = await stack.raw(
            b"GET /api/vouchers/1 HTTP/1.1\r\nHost: x\r\nAuthorization: "
            + bearer()["Authorization"].encode()
            + b"\r\n\r\n"
        )
        assert raw.startswith(b"HTTP/1.1 200")
        assert not raw.endswith(b"0\r\n\r\n")


async def test_an_answer_that_stalls_is_broken_off() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(LENGTH + b"x" * 5000)
        await reader.read()

    async with (
        raw_upstream(handler) as url,
        open_stack(vouchers_url=(url,), standard_timeout=1) as stack,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await stack.client.get("/api/vouchers/1", headers=bearer())


@pytest.mark.parametrize(
    "garbage",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_garbage_from_a_service_is_a_bad_gateway(garbage: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(garbage)
        await writer.drain()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        response = await stack.client.get("/api/vouchers/1", headers=bearer())
        assert response.status_code == 502
        assert response.json()["code"] == "upstream_failed"


class Dropping:
    """A server whose connections end at the second request, as idle ones do; it counts."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        self.received.append(head)
        body = b"" if head.startswith(b"HEAD") else b"ok"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)
        await writer.drain()
        self.received.append(await read_head(reader))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_requests_survive_a_stale_connection(method: str) -> None:
    dropping = Dropping()
    async with raw_upstream(dropping) as url, open_stack(vouchers_url=(url,)) as stack:
        for _ in range(2):
            response = await stack.client.request(method, "/api/vouchers/1", headers=bearer())
            assert response.status_code == 200
    assert len(dropping.received) == 3


async def test_a_repeated_request_never_meets_a_second_stale_connection() -> None:
    together = asyncio.Barrier(4)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if together.broken:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew")
            return
        await together.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await read_head(reader)

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:

        async def get() -> str:
            return (await stack.client.get("/api/vouchers/1", headers=bearer())).text

        assert await asyncio.gather(*(get() for _ in range(4))) == ["ok"] * 4
        await together.abort()
        assert await get() == "new"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_other_requests_are_never_sent_twice(method: str, body: bytes) -> None:
    key = {} if method == "POST" else {"Idempotency-Key": "only-a-post-honours-it"}
    dropping = Dropping()
    async with raw_upstream(dropping) as url, open_stack(vouchers_url=(url,)) as stack:
        await stack.client.get("/api/vouchers/1", headers=bearer())
        response = await stack.client.request(
            method, "/api/vouchers/1", headers={**bearer(), **key}, content=body
        )
        assert response.status_code == 502
    assert len(dropping.received) == 2


class EndsConnections:
    """A service whose process stops: it ends the connection on which the second request comes."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            length = re.search(rb"content-length: (\d+)", head)
            self.received.append(head + await reader.readexactly(int(length[1]) if length else 0))
            if len(self.received) == 2:
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("body", [b"", b'{"a": 1}'])
async def test_a_post_with_an_idempotency_key_is_sent_once_more(body: bytes) -> None:
    service = EndsConnections()
    async with raw_upstream(service) as url, open_stack(vouchers_url=(url,)) as stack:
        await stack.client.get("/api/vouchers/1", headers=bearer())
        response = await stack.client.post(
            "/api/vouchers/1", headers={**bearer(), "Idempotency-Key": "a-key"}, content=body
        )
        assert response.status_code == 200
    assert service.received[1].endswith(b"\r\n\r\n" + body)
    assert service.received[1:] == [service.received[1]] * 2


async def test_a_sign_in_with_a_key_is_not_repeated() -> None:
    """Identity ignores the key there, because a token must not be kept for a second answer."""
    received = []

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        received.append(await read_head(reader))

    async with (
        raw_upstream(handler) as url,
        open_stack(identity_url=(url,), blind=True) as stack,
    ):
        response = await stack.client.post(
            "/api/auth/login", headers={"Idempotency-Key": "a-key"}, content=b"{}"
        )
        assert response.status_code == 502
    assert len([head for head in received if head.startswith(b"POST")]) == 1


async def test_a_request_is_repeated_once_only() -> None:
    received = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await read_head(reader))

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        response = await stack.client.get("/api/vouchers/1", headers=bearer())
        # A dying service may break off twice, at an old and at a new connection: it is down.
        assert response.status_code == 503
        assert "retry-after" in response.headers
    assert len(received) == 2


async def test_a_client_that_leaves_takes_its_upstream_request_along() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        assert await reader.read() == b""
        left.set()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        call = asyncio.create_task(stack.client.get("/api/vouchers/1", headers=bearer()))
        await arrived.wait()
        call.cancel()
        await until(left.is_set)


async def test_a_client_that_leaves_while_it_sends_never_reaches_the_service(
    stack: Stack,
) -> None:
    labels = {"service": "payments", "route": "/api/payments/webhooks/*"}
    labels |= {"method": "POST", "status": "499"}

    def clients_gone() -> float:
        return REGISTRY.get_sample_value("carnet_gateway_requests_total", labels) or 0

    before = clients_gone()
    _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(
        b"POST /api/payments/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    )
    await asyncio.sleep(0.05)
    writer.write(b"way")
    await writer.drain()
    writer.close()
    await until(lambda: clients_gone() > before)
    assert stack.upstream.requests == []


async def test_a_client_that_leaves_during_the_answer_stops_it() -> None:
    stopped = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.005)
        except ConnectionError:
            stopped.set()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        async with stack.client.stream("GET", "/api/vouchers/1", headers=bearer()) as response:
            await anext(response.aiter_raw())
        await until(stopped.is_set)


async def test_a_slow_reader_slows_the_service_down() -> None:
    written = 0

    async def settled() -> bool:
        before = written
        await asyncio.sleep(0.5)
        assert written < 32 * 1024 * 1024  # the kernel's socket buffers, not ours
        return written == before

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            written += 65536

    async with raw_upstream(handler) as url, open_stack(audit_url=(url,)) as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port, limit=65536)
        authorization = bearer()["Authorization"].encode()
        writer.write(
            b"GET /api/admin/audit-logs/export HTTP/1.1\r\nHost: x\r\nAuthorization: "
            + authorization
            + b"\r\n\r\n"
        )
        await read_head(reader)
        await until(settled)
        writer.close()


async def test_an_early_answer_to_a_large_body_reaches_the_client() -> None:
    """The service answers, and ends, before it has read what is on its way to it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\n\r\nearly")
        await writer.drain()
        await asyncio.sleep(0.2)

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as opened:
        response = await opened.client.post(
            "/api/vouchers/purchase", content=b"x" * 1_000_000, headers=bearer()
        )
        assert (response.status_code, response.text) == (409, "early")
