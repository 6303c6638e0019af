"""Logos of organizations, fetched from the address they gave: public ones only, small, harmless.

The address is an outsider's choice. Nothing inside our network is ever asked for it, whatever its
name resolves to, and what comes back is drawn anew before it goes into a document.
"""

import asyncio
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from io import BytesIO
from urllib.parse import urlsplit

import anyio.to_thread
import httpx
import structlog
from PIL import Image, UnidentifiedImageError

log = structlog.get_logger(__name__)

MAX_BYTES = 1024 * 1024
MAX_SIDE = 4000
DRAWN_SIZE = (900, 360)
FETCH_SECONDS = 3.0
KEPT_SECONDS = 600.0
KEPT = 200

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host."""


class NotALogo(Exception):
    """There is no picture that we may show."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Logos:
    """Fetches logos and keeps them for a while, what is missing as well."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._resolve = resolve
        self._kept: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()
        self._client = httpx.AsyncClient(
            transport=transport, timeout=FETCH_SECONDS, trust_env=False
        )

    async def find(self, url: str | None) -> bytes | None:
        """Return the logo as PNG, or None when there is none to show."""
        if not url:
            return None
        until, kept = self._kept.get(url, (0.0, None))
        if until > time.monotonic():
            return kept
        logo = await self._fetch(url)
        self._kept[url] = (time.monotonic() + KEPT_SECONDS, logo)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return logo

    async def _fetch(self, url: str) -> bytes | None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                picture = await self._read(url)
            return await anyio.to_thread.run_sync(_drawn_anew, picture)
        except (NotALogo, httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            log.info("logo_not_shown", cause=repr(error))
            return None

    async def _read(self, url: str) -> bytes:
        request = await self._request(url)
        answer = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            if answer.status_code != 200:
                raise NotALogo(f"status {answer.status_code}")
            read = bytearray()
            async for part in answer.aiter_bytes():
                read += part
                if len(read) > MAX_BYTES:
                    raise NotALogo("too large")
            return bytes(read)
        finally:
            await answer.aclose()

    async def _request(self, url: str) -> httpx.Request:
        """Return a request to the very address that was checked, not to a name looked up again."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotALogo("not an http address")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = await self._resolve(parts.hostname, port)
        if not addresses or not all(ipaddress.ip_address(each).is_global for each in addresses):
            raise NotALogo("not a public address")
        target = httpx.URL(url).copy_with(host=addresses[0])
        headers = {"Host": parts.netloc.rpartition("@")[2], "Accept": "image/png, image/jpeg"}
        extensions = {"sni_hostname": parts.hostname}
        return self._client.build_request("GET", target, headers=headers, extensions=extensions)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _drawn_anew(picture: bytes) -> bytes:
    """Return the picture as a small PNG of our own; raises NotALogo."""
    try:
        with Image.open(BytesIO(picture), formats=("PNG", "JPEG")) as opened:
            if max(opened.size) > MAX_SIDE:
                raise NotALogo("too many pixels")
            drawn = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise NotALogo("not a picture") from error
    drawn.thumbnail(DRAWN_SIZE)
    written = BytesIO()
    drawn.save(written, format="PNG")
    return written.getvalue()
