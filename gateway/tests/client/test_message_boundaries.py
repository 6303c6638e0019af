"""Where a request ends, even if it names other protocols; over raw sockets."""

import asyncio
import json

import pytest

from gateway.tests.client.test_requests import LOGIN, SMUGGLED, parts
from gateway.tests.conftest import Stack, open_stack

pytestmark = pytest.mark.anyio

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
LAST = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TRAILERS = LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"


async def in_pieces(stack: Stack, *pieces: bytes) -> bytes:
    """Send the pieces one after the other and read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            # Each piece must be a read of its own; there is nothing else to wait for.
            await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
async def test_a_body_after_upgrade_reaches_the_service_as_a_body(
    stack: Stack, protocol: bytes
) -> None:
    head = LOGIN + H2C.replace(b"h2c", protocol) + LENGTH
    answer = await in_pieces(stack, head, SMUGGLED + LAST)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert stack.upstream.bodies == [SMUGGLED]
    assert {"upgrade", "connection", "http2-settings"}.isdisjoint(stack.upstream.last_headers)


async def test_the_gateways_own_pages_read_bodies_after_upgrade(stack: Stack) -> None:
    head = b"POST /health HTTP/1.1\r\nHost: x\r\n" + H2C + LENGTH
    answer = await in_pieces(stack, head, SMUGGLED, LAST)
    assert answer.count(b"HTTP/1.1") == 2
    assert stack.upstream.requests == []


async def test_http_1_0_has_no_upgrade(stack: Stack) -> None:
    request = LOGIN.replace(b"HTTP/1.1", b"HTTP/1.0") + H2C + LENGTH + SMUGGLED
    answer = await stack.raw(request)
    assert answer.count(b"HTTP/1.1") == 1
    assert stack.upstream.bodies == [SMUGGLED]


async def test_upgrades_do_not_count_against_the_service() -> None:
    """Twelve of them once opened the circuit of identity for all clients."""
    async with open_stack(circuit_failures=2, standard_timeout=1) as stack:
        request = LOGIN + H2C + LENGTH + SMUGGLED + LAST
        answers = await asyncio.gather(*(stack.raw(request) for _ in range(12)))
        assert [answer.count(b"HTTP/1.1 200") for answer in answers] == [2] * 12
        assert (await stack.client.post("/api/auth/login")).status_code == 200


async def test_trailers_are_dropped(stack: Stack) -> None:
    forged = b"X-Request-ID: forged-by-a-trailer\r\nX-Own: trailer\r\nHost: y\r\n\r\n"
    answer = await stack.raw(TRAILERS + forged + LAST)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"forged-by-a-trailer" not in answer
    assert stack.upstream.bodies == [b"x"]
    assert "x-own" not in stack.upstream.last_headers


@pytest.mark.parametrize(
    "endless",
    [
        TRAILERS + b"X-A: ",
        TRAILERS + b"X-A: a\r\n",
        LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["a trailer", "trailers", "a chunk's extension"],
)
async def test_what_a_chunked_body_has_besides_data_is_bounded(
    stack: Stack, endless: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    field = endless[len(TRAILERS) :] if endless.endswith(b"\r\n") else b"a"
    writer.write(endless)
    await asyncio.sleep(0.1)
    writer.write(field * (40_000 // len(field)))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    status, headers, body = parts(answer)
    assert status in (400, 431)
    code = json.loads(body[: int(headers["content-length"])])["code"]
    assert code in ("malformed_request", "head_too_large")
    assert stack.upstream.requests == []


async def test_a_refused_body_that_was_not_invited_ends_the_connection(stack: Stack) -> None:
    request = b"POST /api/vouchers/purchase HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    answer = await in_pieces(stack, request + LENGTH, SMUGGLED)
    status, headers, _ = parts(answer)
    assert (status, headers["connection"]) == (401, "close")
    assert answer.count(b"HTTP/1.1") == 1
    assert stack.upstream.requests == []


@pytest.mark.parametrize(
    "pieces",
    [
        (LOGIN + b"Content-Length: 40000\r\n\r\n" + b"x" * 100, b"x" * 39_900 + LOGIN),
        (LOGIN + b"Content-Length: 40000\r\n\r\n" + b"x" * 40_000 + LOGIN,),
        (LOGIN + b"X-A: %b\r\n" % (b"a" * 16_000), b"X-B: %b\r\n" % (b"b" * 12_000)),
    ],
    ids=["behind the end of a body", "behind a whole request", "in two pieces"],
)
async def test_a_head_below_the_limit_is_accepted_however_it_arrives(
    stack: Stack, pieces: tuple[bytes, ...]
) -> None:
    answers = await in_pieces(stack, *pieces, b"Connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200") == b"".join(pieces).count(b"POST ")
