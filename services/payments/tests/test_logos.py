"""Logos: public pictures only; nothing inside our network is ever asked."""

from collections.abc import Callable
from io import BytesIO

import httpx
import pytest
from PIL import Image

from services.payments.logos import MAX_BYTES, Logos
from shared.errors import AppError

pytestmark = pytest.mark.anyio

Answer = Callable[[httpx.Request], httpx.Response]


def picture(form: str = "PNG", size: tuple[int, int] = (2000, 500)) -> bytes:
    written = BytesIO()
    Image.new("RGB", size, "navy").save(written, format=form)
    return written.getvalue()


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
        logo = await found.find("https://logos.example.org:8443/a.png")
    await found.aclose()
    assert logo is not None
    with Image.open(BytesIO(logo)) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (900, 225))
    [request] = asked
    assert request.url.host == "93.184.215.14", "the address that was checked, not the name again"
    assert request.headers["host"] == "logos.example.org:8443"
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
        ["93.184.215.14", "192.168.0.1"],
        [],
    ],
)
async def test_nothing_inside_is_asked(addresses: list[str]) -> None:
    found = logos(never, *addresses)
    assert await found.find("http://logos.example.org/a.png") is None
    await found.aclose()


@pytest.mark.parametrize("url", [None, "", "file:///etc/passwd", "ftp://example.org/a", "http://"])
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
    ],
)
async def test_what_is_no_picture_is_not_shown(answer: Answer) -> None:
    found = logos(answer, "93.184.215.14")
    assert await found.find("https://logos.example.org/a.png") is None
    await found.aclose()
