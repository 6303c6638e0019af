"""What an answer of an unknown server may cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from shared.bounded_http import HEAD_BYTES, BoundedTransport

pytestmark = pytest.mark.anyio

BODY_BYTES = 100_000


@asynccontextmanager
async def _server(head: bytes, repeated: bytes) -> AsyncIterator[str]:
    """Answer with `head` and then `repeated` until nobody reads any more."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            while repeated:
                writer.write(repeated)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=BoundedTransport(1, BODY_BYTES)) as client:
        return await client.get(url, timeout=20.0)


@pytest.mark.parametrize(
    ("head", "repeated"),
    [
        (b"", b"HTTP/1.1 103 \r\n\r\n" * 200),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 200),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;e=eeeeeeee\r\nx\r\n" * 200),
    ],
)
async def test_an_answer_without_end_is_given_up(head: bytes, repeated: bytes) -> None:
    async with _server(head, repeated) as url:
        with pytest.raises(httpx.ReadError, match="too long"):
            await _get(url)


async def test_informational_answers_are_counted_with_the_head() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    end = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlogo"
    few, many = 10, HEAD_BYTES // len(early) + 200
    async with _server(early * few + end, b"") as url:
        assert (await _get(url)).content == b"logo"
    async with _server(early * many + end, b"") as url:
        with pytest.raises(httpx.ReadError, match="too long"):
            await _get(url)


async def test_a_body_of_the_size_that_is_allowed_is_read_whole() -> None:
    body = b"x" * BODY_BYTES
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with _server(head + body, b"") as url:
        assert (await _get(url)).content == body
