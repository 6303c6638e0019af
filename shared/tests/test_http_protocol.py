"""Where a request ends, at the server that every service and every operations port has.

Each test sends bytes over a plain socket: a client library would not send most of these.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.service import operations_app, uvicorn_config

pytestmark = pytest.mark.anyio

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
LENGTH = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)


class Echo:
    """Answers each request with its path; remembers the heads and the bodies."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.headers: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", scope["path"] != "/refused"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.requests.append((scope["path"], body))
        self.headers.append(dict(scope["headers"]))
        answer = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    """Run a server as services and operations ports do; yields its port."""
    config = uvicorn_config(app, "127.0.0.1", 0)
    config.lifespan, config.timeout_graceful_shutdown = "off", 1
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not (server.started or task.done()):
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one after the other and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            # Each piece must be a read of its own; there is nothing else to wait for.
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0", b"foo, bar"])
@pytest.mark.parametrize("apart", [True, False])
async def test_the_body_of_a_request_with_upgrade_is_its_body(
    version: bytes, protocol: bytes, apart: bool
) -> None:
    head = (
        b"POST /first HTTP/%b\r\nHost: x\r\nConnection: keep-alive, Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\n%b" % (version, protocol, LENGTH)
    )
    rest = SMUGGLED + LAST
    echo = Echo()
    async with serving(echo) as port:
        pieces = (head, rest) if apart else (head + rest,)
        answer = await exchange(port, *pieces)
    assert echo.requests[0] == ("/first", SMUGGLED)
    # HTTP/1.0 ends with its first answer; in 1.1 the connection goes on behind the body.
    following = [("/last", b"")] if version == b"1.1" else []
    assert echo.requests[1:] == following
    assert answer.count(b"HTTP/1.1 200") == 1 + len(following)


async def test_a_chunked_body_after_upgrade_is_read_in_single_bytes() -> None:
    echo = Echo()
    request = b"POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + UPGRADE
    async with serving(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in request + b"\r\n" + CHUNKED + LAST:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await reader.read()).count(b"HTTP/1.1 200") == 2
        writer.close()
    assert echo.requests == [("/first", SMUGGLED), ("/last", b"")]


async def test_pipelined_upgrades_are_ordinary_requests() -> None:
    echo = Echo()
    one = b"POST /first HTTP/1.1\r\nHost: x\r\n" + UPGRADE + LENGTH + SMUGGLED
    bodiless = b"GET /second HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
    async with serving(echo) as port:
        answer = await exchange(port, one + bodiless + one + LAST)
    assert answer.count(b"HTTP/1.1 200") == 4
    assert b" 101 " not in answer
    assert [path for path, _ in echo.requests] == ["/first", "/second", "/first", "/last"]
    assert b"upgrade" not in echo.headers[0]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_upgrade_excuses_no_ambiguous_framing(framing: bytes) -> None:
    echo = Echo()
    async with serving(echo) as port:
        request = b"POST /first HTTP/1.1\r\nHost: x\r\n" + UPGRADE + framing
        assert b"HTTP/1.1 400" in await exchange(port, request + SMUGGLED)
    assert all(path != "/smuggled" for path, _ in echo.requests)


@pytest.mark.parametrize("target", [b"/first", b"x:80", b"http://x/first"])
async def test_connect_is_refused_and_nothing_behind_it_is_read(target: bytes) -> None:
    echo = Echo()
    async with serving(echo) as port:
        connect = b"CONNECT %b HTTP/1.1\r\nHost: x\r\n%b" % (target, LENGTH)
        answer = await exchange(port, connect + SMUGGLED + LAST)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert echo.requests == []


async def test_trailers_are_no_headers() -> None:
    echo = Echo()
    request = (
        b"POST /first HTTP/1.1\r\nHost: x\r\nX-Request-ID: head\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: X-Request-ID\r\n\r\n0\r\nX-Request-ID: trailer\r\nX-User-Id: 1\r\n\r\n"
    )
    async with serving(echo) as port:
        await exchange(port, request + LAST)
    assert echo.headers[0][b"x-request-id"] == b"head"
    assert b"x-user-id" not in echo.headers[0]
    assert echo.requests[1] == ("/last", b"")


async def test_a_body_without_100_continue_ends_the_connection() -> None:
    """A client may leave the body out, or send it: what follows is not to be guessed."""
    echo = Echo()
    expecting = b"POST /%b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + LENGTH
    async with serving(echo) as port:
        refused = await exchange(port, expecting % b"refused", SMUGGLED)
        accepted = await exchange(port, expecting % b"first", SMUGGLED + LAST)
    assert refused.count(b"HTTP/1.1") == 1
    assert b"connection: close" in refused
    assert accepted.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    assert accepted.count(b"HTTP/1.1 200") == 2
    assert echo.requests == [("/refused", b""), ("/first", SMUGGLED), ("/last", b"")]


async def test_the_operations_port_reads_bodies_after_upgrade() -> None:
    async with serving(operations_app({})) as port:
        head = b"POST /health HTTP/1.1\r\nHost: x\r\n" + UPGRADE + LENGTH
        answer = await exchange(port, head, SMUGGLED, LAST)
    assert answer.count(b"HTTP/1.1") == 2
    assert answer.startswith(b"HTTP/1.1 405")
