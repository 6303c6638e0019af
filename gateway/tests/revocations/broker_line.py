"""A connection to the broker that a test can cut or freeze."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL

from gateway.tests.conftest import (
    broker_url,
    raw_upstream,
)

DEAD_BROKER = "amqp://127.0.0.1:9/"


class Line:
    """A line to the broker that a test can cut, or keep silent without cutting it."""

    def __init__(self) -> None:
        self.open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def cut(self) -> None:
        """End every connection, and the next ones at once."""
        self.open = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing through any more, while every connection stays."""
        self._flowing.clear()

    def mend(self) -> None:
        """Be a line again."""
        self.open = True
        self._flowing.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client to the broker."""
        if not self.open:
            return
        broker = URL(broker_url())
        assert broker.host is not None
        far_reader, far_writer = await asyncio.open_connection(broker.host, broker.port)
        self._writers |= {writer, far_writer}
        ways = [self._copy(reader, far_writer), self._copy(far_reader, writer)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writers -= {writer, far_writer}
            far_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            await self._flowing.wait()
            writer.write(piece)


@asynccontextmanager
async def line_to_broker() -> AsyncIterator[tuple[Line, str]]:
    line = Line()
    async with raw_upstream(line.carry) as address:
        port = URL(address).port
        yield line, str(URL(broker_url()).with_host("127.0.0.1").with_port(port))
