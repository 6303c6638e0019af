"""A TCP proxy between the processes and a server, which simulates network faults.

It can close every connection, hold back all data like a network that drops packets, and close a
connection to PostgreSQL between a COMMIT and its answer, so that the client does not know that the
transaction was committed.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

# What a client sends to commit, a Query message, and the CommandComplete that answers it.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
# With the semicolon it is asyncpg that commits, without it `shared.connections`.
_COMMITS = (b"COMMIT;\x00", b"COMMIT\x00")
_COMMITTED = b"COMMIT\x00"
_CHUNK = 256 * 1024


class Proxy:
    """Forwards connections to `target`, a port of `host`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.target = 0
        self._host = host
        self.address = ""
        self.commits_cut = 0
        self._commits_to_cut = 0
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, listener: socket.socket | None = None) -> AsyncIterator["Proxy"]:
        """Listen until the end of the block, by default on a free port of 127.0.0.1."""
        listener = listener or socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(self._accept, sock=listener)
        host, port = listener.getsockname()
        self.address = f"{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            self._open.set()
            while self._links:
                self.cut()
                await asyncio.wait(self._links)
            await server.wait_closed()

    def cut(self) -> int:
        """Close all connections; return their number."""
        for link in self._links:
            link.cancel()
        return len(self._links)

    def cut_commits(self, number: int) -> None:
        """Close the connections of the next commits after the commit and before its answer."""
        self._commits_to_cut = number

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold back all data in both directions during the block; connections stay open."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Start a link, which can be cancelled at any time, also before its first step."""
        link = asyncio.ensure_future(self._forward(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        link.add_done_callback(lambda _: writer.close())

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward in both directions until one of them ends."""
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(self._host, self.target)
            # A link may be cut a second time while it ends: nothing is awaited before the close.
            with contextlib.closing(up_writer):
                cut = asyncio.Event()
                there = asyncio.ensure_future(self._forward_requests(reader, up_writer, cut))
                back = asyncio.ensure_future(self._forward_answers(up_reader, writer, cut))
                try:
                    await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)

    async def _forward_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._commits_to_cut and any(commit in data for commit in _COMMITS):
                self._commits_to_cut -= 1
                cut.set()
            await self._write(writer, data)

    async def _forward_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if cut.is_set() and _COMMITTED in data:
                self.commits_cut += 1
                return
            await self._write(writer, data)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._open.wait()
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
