"""A gigabyte passes the gateway, down and up, and its memory does not grow with it.

An answer is streamed in one piece of a gigabyte. Requests' bodies are limited and received whole
(docs/decisions/0023-bodies-before-places.md), so a gigabyte goes up in the largest bodies allowed.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.gateways import AnotherGateway, another_gateway
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [
    pytest.mark.anyio,
    IN_ONE_PROCESS,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

GIGABYTE = 1024**3
PIECE = b"x" * 256 * 1024
BODY = b"x" * 1024 * 1024  # the largest that the gateway accepts
ALLOWED = 24 * 1024  # KiB: buffers of sockets and parsers and one body, not all that passed
_LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)


class Endless:
    """A service that answers a GET with a gigabyte and counts the bytes that are posted."""

    def __init__(self) -> None:
        self.received = 0
        self.address = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /api"):
                    await self._give(writer)
                elif head.startswith(b"POST /api"):
                    await self._take(reader, head)
                    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                else:  # readiness, documentation
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _give(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        for _ in range(GIGABYTE // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()

    async def _take(self, reader: asyncio.StreamReader, head: bytes) -> None:
        length = _LENGTH.search(head)
        assert length is not None
        self.received += len(await reader.readexactly(int(length[1])))


@pytest.fixture
async def endless() -> AsyncIterator[Endless]:
    service = Endless()
    async with await asyncio.start_server(service, "127.0.0.1", 0) as server:
        service.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield service


@pytest.fixture
async def gateway(endless: Endless, stack: Stack, tmp_path: Path) -> AsyncIterator[AnotherGateway]:
    """A gateway in front of that service."""
    log = tmp_path / "log"
    async with another_gateway(stack, log, AUDIT_URL=endless.address) as running:
        yield running


async def _connected(
    gateway: AnotherGateway,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(gateway.address)
    return await asyncio.open_connection(parts.hostname, parts.port)


def _head(method: str, path: str, token: str | None, length: int) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode()


async def test_a_gigabyte_down(scene: Scene, gateway: AnotherGateway) -> None:
    path = f"{scene.here}/audit-logs/export?format=csv"
    before = gateway.peak_memory()
    reader, writer = await _connected(gateway)
    writer.write(_head("GET", path, scene.cast.owner.token, 0))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    left = GIGABYTE
    while left and (piece := await reader.read(min(len(PIECE), left))):
        left -= len(piece)
    writer.close()
    assert left == 0
    assert gateway.peak_memory() - before < ALLOWED


async def test_a_gigabyte_up(scene: Scene, endless: Endless, gateway: AnotherGateway) -> None:
    path = f"{scene.here}/audit-logs/export"
    before = gateway.peak_memory()
    reader, writer = await _connected(gateway)
    head = _head("POST", path, scene.cast.owner.token, len(BODY))
    for _ in range(GIGABYTE // len(BODY)):
        writer.writelines((head, BODY))
        await writer.drain()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
    writer.close()
    assert endless.received == GIGABYTE
    assert gateway.peak_memory() - before < ALLOWED


async def test_a_gigabyte_in_one_body_is_refused_at_its_head(
    scene: Scene, endless: Endless, gateway: AnotherGateway
) -> None:
    path = f"{scene.here}/audit-logs/export"
    before = gateway.peak_memory()
    reader, writer = await _connected(gateway)
    writer.write(_head("POST", path, scene.cast.owner.token, GIGABYTE))
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
    assert endless.received == 0
    assert gateway.peak_memory() - before < ALLOWED
