"""Logos: public pictures only; nothing inside our network is ever asked, and nothing waits."""

import asyncio
import gzip
import os
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from services.payments.documents.logos import (
    CACHE_BYTES,
    CACHE_ENTRIES,
    MAX_PARTS,
    LogoCache,
    Logos,
)
from services.payments.documents.picture_program import MAX_BYTES, MAX_PIXELS
from services.payments.documents.pictures import AT_ONCE, NotAPicture, PictureStudio
from shared.errors import AppError

pytestmark = pytest.mark.anyio

Answer = Callable[[httpx.Request], httpx.Response]


def picture(form: str = "PNG", size: tuple[int, int] = (2000, 500)) -> bytes:
    written = BytesIO()
    Image.new("RGB", size, "navy").save(written, format=form)
    return written.getvalue()


def header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that claims this size."""
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(bytes(1000))),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


class Parts(httpx.AsyncByteStream):
    """A body in parts, which counts those that were read."""

    def __init__(self, part: bytes, number: int) -> None:
        self.part, self.number, self.read = part, number, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.number):
            self.read += 1
            yield self.part


def logos(answer: Answer, *addresses: str) -> Logos:
    async def resolve(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return Logos(httpx.MockTransport(answer), resolve)


def answering(body: bytes, status: int = 200) -> Answer:
    return lambda _request: httpx.Response(status, content=body)


def never(_request: httpx.Request) -> httpx.Response:
    raise AppError("asked")


async def test_a_public_picture_is_drawn_anew_and_small() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=picture("JPEG"))

    found = logos(answer, "93.184.215.14")
    for _ in range(2):
        logo = await found.find("https://logos.example.org/a.png")
    await found.aclose()
    assert logo is not None
    with Image.open(BytesIO(logo)) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (900, 225))
    [request] = asked
    assert request.url.host == "93.184.215.14", "the address that was checked, not the name again"
    assert request.headers["host"] == "logos.example.org"
    assert request.extensions["sni_hostname"] == "logos.example.org"


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        ["::1"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["64:ff9b:1::a00:1"],
        ["2002:7f00:1::"],
        ["2001:0:7f00:1::"],
        ["::7f00:1"],
        ["100.64.0.1"],
        ["224.0.0.1"],
        ["ff02::1"],
        ["fe80::1%eth0"],
        ["93.184.215.14", "192.168.0.1"],
        [],
    ],
)
async def test_nothing_inside_is_asked(addresses: list[str]) -> None:
    found = logos(never, *addresses)
    assert await found.find("http://logos.example.org/a.png") is None
    await found.aclose()


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "file:///etc/passwd",
        "ftp://example.org/a",
        "http://",
        "https://logos.example.org:8443/a.png",
        "http://logos.example.org:5432/",
        "https://user:secret@logos.example.org/a.png",
        "http://localhost/a.png",
        "http://payments/a.png",
        "http://[64:ff9b::7f00:1]/a.png",
    ],
)
async def test_other_addresses_are_none(url: str | None) -> None:
    found = logos(never, "93.184.215.14")
    assert await found.find(url) is None
    await found.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        answering(picture(), 404),
        answering(b"", 302),
        answering(b"<svg/>"),
        answering(b"\x89PNG\r\n\x1a\nbroken"),
        answering(b"x" * (MAX_BYTES + 1)),
        answering(picture(size=(5000, 10))),
        answering(picture(size=(3000, 3000))),
        answering(header(20_000, 20_000)),
        answering(header(1, 2**31 - 1)),
        answering(header(0, 0)),
        answering(picture()[:-200]),
        answering(picture("JPEG")[:700]),
        answering(picture("GIF")),
    ],
)
async def test_what_is_no_picture_is_not_shown(answer: Answer) -> None:
    found = logos(answer, "93.184.215.14")
    assert await found.find("https://logos.example.org/a.png") is None
    await found.aclose()


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip", "br", "identity"])
async def test_an_encoded_answer_is_not_read(encoding: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 * 1024 * 1024)))
    asked: list[httpx.Request] = []
    body = Parts(bomb, 1)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"Content-Encoding": encoding}, stream=body)

    found = logos(answer, "93.184.215.14")
    assert await found.find("https://logos.example.org/a.png") is None
    await found.aclose()
    assert asked[0].headers["accept-encoding"] == "identity"
    assert body.read == 0


@pytest.mark.parametrize("body", [Parts(b"x", 10**9), Parts(b"x" * 65536, 10**9)])
async def test_an_endless_answer_is_left_early(body: Parts) -> None:
    found = logos(lambda _: httpx.Response(200, stream=body), "93.184.215.14")
    assert await found.find("https://logos.example.org/a.png") is None
    await found.aclose()
    assert body.read <= MAX_PARTS + 1


async def test_many_at_once_ask_once() -> None:
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        await asyncio.sleep(0)
        return httpx.Response(200, content=picture())

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["2606:4700::1111"]

    found = Logos(httpx.MockTransport(answer), resolve)
    urls = ["https://logos.example.org/a.png", "https://logos.example.org/b.png"] * 20
    drawn = await asyncio.gather(*map(found.find, urls))
    await found.aclose()
    assert all(drawn)
    assert sorted(asked) == ["/a.png", "/b.png"]


async def test_who_goes_away_does_not_take_the_logo_from_others() -> None:
    found = logos(answering(picture()), "93.184.215.14")
    url = "https://logos.example.org/a.png"
    leaving, staying = (asyncio.create_task(found.find(url)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is not None
    await found.aclose()


async def test_the_largest_picture_does_not_keep_the_loop() -> None:
    side = int(MAX_PIXELS**0.5)
    found = logos(answering(picture(size=(side, side))), "93.184.215.14")
    task = asyncio.create_task(found.find("https://logos.example.org/a.png"))
    longest, before = 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0.001)
        longest, before = max(longest, time.thread_time() - before), time.thread_time()
    await found.aclose()
    assert task.result() is not None
    assert longest < 0.1, "seconds of computing in one turn of the loop"


def _program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", text)


@pytest.mark.parametrize(
    "text",
    [
        "import time; time.sleep(60)",
        "while True: pass",
        "import sys; sys.exit('broken')",
        "import os; os.abort()",
        "import sys; sys.stdout.write('x' * 10**8)",
        "import sys; sys.stderr.write('x' * 10**8)",
        "pass",
    ],
)
async def test_a_decoder_that_fails_is_a_picture_less(text: str) -> None:
    studio = PictureStudio(_program(text), seconds=1.0)
    with pytest.raises(NotAPicture):
        await studio.draw(b"x" * MAX_BYTES)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_decoder_that_writes_without_end_leaves_no_pipe_open(stream: str) -> None:
    text = f"import sys\nwhile True: sys.{stream}.write('x' * 10**6)"
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        async with asyncio.timeout(10):
            with pytest.raises(NotAPicture, match="wrote too much"):
                await PictureStudio(_program(text)).draw(b"x" * MAX_BYTES)
    assert len(os.listdir("/dev/fd")) == before


async def test_a_decoder_knows_nothing_of_our_environment() -> None:
    studio = PictureStudio(_program("import os; print(sorted(os.environ))"))
    assert set(eval(await studio.draw(b""))) <= {"LC_CTYPE"}  # noqa: S307


async def test_few_decoders_are_at_work_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path)
    note = (
        f"import os, time; f = open({folder!r} + '/' + str(os.getpid()), 'w');"
        f"time.sleep(0.2); n = len(os.listdir({folder!r})); os.unlink(f.name); print(n)"
    )
    studio = PictureStudio(_program(note))
    counts = await asyncio.gather(*(studio.draw(b"") for _ in range(3 * AT_ONCE)))
    assert max(map(int, counts)) == AT_ONCE


async def test_a_cancelled_drawing_leaves_no_process(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    text = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    task = asyncio.create_task(PictureStudio(_program(text)).draw(b""))
    while not (started.exists() and started.read_text()):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_the_cache_is_bounded() -> None:
    cache = LogoCache()
    for number in range(2 * CACHE_ENTRIES):
        cache.put(f"https://example.org/{number}", None)
    assert cache.get("https://example.org/0") == (False, None)
    assert cache.get(f"https://example.org/{2 * CACHE_ENTRIES - 1}") == (True, None)
    large = bytes(CACHE_BYTES // 2)
    for name in "abc":
        cache.put(name, large)
    assert [cache.get(name)[0] for name in "abc"] == [False, True, True]
