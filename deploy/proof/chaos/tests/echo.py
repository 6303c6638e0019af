"""A program of the second host: answers each line with the same, at the address it is given."""

import asyncio
import os
from contextlib import suppress


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
    writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_answer, os.environ["HOST"], int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
