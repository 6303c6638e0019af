"""The client's side of HTTP/1.1: where an answer ends, and whose answer it is."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.errors import MalformedRequest
from gateway.headers import read_head as read_request_head
from gateway.tests.conftest import Stack, bearer, open_stack, raw_upstream, read_head
from gateway.upstream.forwarder import UpstreamRequest
from shared.testing import until

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Script:
    """An upstream that answers the requests it gets, in order, with given bytes; it counts."""

    def __init__(self, *answers: bytes, then_close: bool = False) -> None:
        self.answers = list(answers)
        self.then_close = then_close
        self.connections = 0
        self.left = 0
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                self.heads.append(await read_head(reader))
                writer.write(self.answers.pop(0))
                await writer.drain()
                if self.then_close:
                    return
            await reader.read()
        finally:
            self.left += 1


@asynccontextmanager
async def behind(script: Script) -> AsyncIterator[Stack]:
    async with raw_upstream(script) as url, open_stack(vouchers_url=(url,)) as stack:
        yield stack


async def get(stack: Stack, method: str = "GET") -> httpx.Response:
    return await stack.client.request(method, "/api/vouchers/1", headers=bearer())


async def test_connections_are_used_again() -> None:
    script = Script(*[OK] * 5)
    async with behind(script) as stack:
        assert [(await get(stack)).text for _ in range(5)] == ["ok"] * 5
    assert script.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_the_service_will_close_is_not_used_again(answer: bytes) -> None:
    script = Script(answer, OK)
    async with behind(script) as stack:
        for _ in range(2):
            assert (await get(stack, "POST")).text == "ok"
    assert script.connections == 2


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    script = Script(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, then_close=True)
    async with behind(script) as stack:
        assert (await get(stack)).content == b"x" * 100_000


async def test_a_body_without_a_length_that_is_reset_is_not_complete() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.1)
        connection: socket.socket = writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)  # closing sends a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        with pytest.raises(httpx.RemoteProtocolError):
            await get(stack)


@pytest.mark.parametrize(
    "more",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",  # an unrequested answer
        b"garbage",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_bytes_behind_an_answer_never_become_the_next_one(more: bytes, at_once: bool) -> None:
    connections = left = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, left
        connections += 1
        await read_head(reader)
        writer.write(OK + more if at_once else OK)
        await writer.drain()
        if not at_once:
            await asyncio.sleep(0.05)
            writer.write(more)
        await reader.read()
        left += 1

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        for number in (1, 2):
            assert (await get(stack)).text == "ok"
            await until(lambda number=number: left == number)  # type: ignore[misc]
    assert connections == 2


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\nevil"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"),
    ],
)
async def test_a_body_where_there_must_be_none_does_no_harm(method: str, answer: bytes) -> None:
    script = Script(answer, OK)
    async with behind(script) as stack:
        first = await get(stack, method)
        assert first.status_code in (200, 204, 304)
        assert first.content == b""
        await until(lambda: script.left == 1)
        assert (await get(stack)).text == "ok"
    assert script.connections == 2


async def test_answers_without_bodies_keep_their_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"
    script = Script(head, empty, unchanged, OK)
    async with behind(script) as stack:
        statuses = [(await get(stack, method)).status_code for method in ("HEAD", "GET", "GET")]
        assert statuses == [200, 204, 304]
        assert (await get(stack)).text == "ok"
    assert script.connections == 1


async def test_interim_answers_leave_nothing_behind() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nX-Hint: 1\r\n\r\n"
    script = Script(b"HTTP/1.1 100 Continue\r\n\r\n" + hints * 3 + OK, OK)
    async with behind(script) as stack:
        for _ in range(2):
            response = await get(stack)
            assert (response.status_code, response.text) == (200, "ok")
            assert "x-hint" not in response.headers
    assert script.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
    ],
)
async def test_answers_of_two_meanings_are_refused_or_broken_off(answer: bytes) -> None:
    async with behind(Script(answer, answer, then_close=True)) as stack:
        try:
            response = await get(stack)
        except httpx.RemoteProtocolError:
            return
        assert response.status_code == 502


async def test_an_answer_in_single_bytes_is_whole() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        chunks = b"3\r\none\r\n5;x=y\r\n, two\r\n0\r\nTrailer: x\r\n\r\n"
        for byte in b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        response = await get(stack)
        assert (response.status_code, response.text) == (201, "one, two")


async def test_an_idle_connection_is_left_before_the_service_leaves_it() -> None:
    script = Script(OK, OK)
    async with raw_upstream(script) as url, open_stack(vouchers_url=(url,), idle_timeout=0.1) as s:
        for _ in range(2):
            assert (await get(s, "POST")).text == "ok"
            await asyncio.sleep(0.2)
    assert script.connections == 2


async def test_a_slow_client_is_not_taken_for_a_silent_service() -> None:
    total = 8 * 1024 * 1024

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        writer.write(b"x" * total)
        await writer.drain()
        await reader.read()

    async with (
        raw_upstream(handler) as url,
        open_stack(vouchers_url=(url,), standard_timeout=1) as stack,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port, limit=65536)
        authorization = bearer()["Authorization"].encode()
        writer.write(
            b"GET /api/vouchers/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: "
            + authorization
            + b"\r\n\r\n"
        )
        await read_head(reader)
        await asyncio.sleep(2)
        assert len(await reader.read(-1)) == total
        writer.close()


async def test_a_service_that_reads_slowly_gets_the_whole_body() -> None:
    size = 900_000
    seen = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await read_head(reader)
        while seen < size:
            seen += len(await reader.read(30_000))
            await asyncio.sleep(0.005)
        writer.write(OK)
        await writer.drain()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        response = await stack.client.post(
            "/api/vouchers/purchase", content=b"x" * size, headers=bearer()
        )
        assert response.status_code == 200
    assert seen == size


@pytest.mark.parametrize("value", [b"a\r\nEvil: 1", b"a\nEvil: 1", b"a\rb"])
def test_no_line_break_ever_reaches_a_service(value: bytes) -> None:
    for request in (
        UpstreamRequest("GET", b"/x", b"", [(b"x-a", value)], None, 1),
        UpstreamRequest("GET", b"/x", value, [], None, 1),
        UpstreamRequest("GET", value, b"", [], None, 1),
    ):
        with pytest.raises(MalformedRequest):
            request.encode(b"service")


def test_the_framing_is_stated_even_if_the_client_did_not() -> None:
    assert b"content-length: 0" in UpstreamRequest("POST", b"/x", b"", [], None, 1).encode(b"h")
    assert b"content-length" not in UpstreamRequest("GET", b"/x", b"", [], None, 1).encode(b"h")
    whole = UpstreamRequest("PUT", b"/x", b"a=b", [], b"body", 1).encode(b"h")
    assert whole == b"PUT /x?a=b HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody"


def test_the_length_is_never_what_a_client_announced() -> None:
    sent = [(b"host", b"x"), (b"content-length", b"47"), (b"content_length", b"47")]
    head = read_request_head(sent, "1.1")
    assert head.content_length == 47
    assert head.forwarded == []
