"""A gigabyte passes the gateway, down and up, and its memory does not grow with it."""

import asyncio
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
ALLOWED = 24 * 1024  # KiB: sockets' and parsers' buffers, not the body


class Endless:
    """A service of a gigabyte: gives one to whoever gets, and counts what is posted to it."""

    def __init__(self) -> None:
        self.received = 0
        self.address = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /api"):
                    await self._give(writer)
                elif head.startswith(b"POST /api"):
                    await self._take(reader)
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

    async def _take(self, reader: asyncio.StreamReader) -> None:
        while self.received < GIGABYTE:
            piece = await reader.read(min(len(PIECE), GIGABYTE - self.received))
            if not piece:
                return
            self.received += len(piece)


@pytest.fixture
async def endless() -> AsyncIterator[Endless]:
    service = Endless()
    async with await asyncio.start_server(service, "127.0.0.1", 0) as server:
        service.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield service


@pytest.fixture
async def gateway(endless: Endless, stack: Stack, tmp_path: Path) -> AsyncIterator[AnotherGateway]:
    """A gateway in front of that service, which takes bodies of more than a gigabyte."""
    settings = {"AUDIT_URL": endless.address, "BODY_LIMIT": str(2 * GIGABYTE)}
    async with another_gateway(stack, tmp_path / "log", **settings) as running:
        yield running


async def _connected(
    gateway: AnotherGateway, method: str, path: str, token: str | None, length: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(gateway.address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    writer.write(f"{head}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode())
    return reader, writer


async def test_a_gigabyte_down(scene: Scene, gateway: AnotherGateway) -> None:
    path = f"{scene.here}/audit-logs/export?format=csv"
    before = gateway.peak_memory()
    reader, writer = await _connected(gateway, "GET", path, scene.cast.owner.token, 0)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    seen = 0
    while piece := await reader.read(len(PIECE)):
        seen += len(piece)
    writer.close()
    assert seen == GIGABYTE
    assert gateway.peak_memory() - before < ALLOWED


async def test_a_gigabyte_up(scene: Scene, endless: Endless, gateway: AnotherGateway) -> None:
    path = f"{scene.here}/audit-logs/export"
    before = gateway.peak_memory()
    reader, writer = await _connected(gateway, "POST", path, scene.cast.owner.token, GIGABYTE)
    for _ in range(GIGABYTE // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()
    assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    writer.close()
    assert endless.received == GIGABYTE
    assert gateway.peak_memory() - before < ALLOWED
