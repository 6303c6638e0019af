"""Logos of organizations, fetched from a URL that the organization chose.

Only public addresses are contacted, whatever the URL's name resolves to. The response is limited in
bytes, parts and seconds, and a separate process draws the picture again before it is put into a
document. Nothing here occupies the event loop or threads that others need: at worst there is no
logo.
"""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import structlog

from services.payments.documents.picture_program import MAX_BYTES
from services.payments.documents.pictures import NotAPicture, PictureStudio
from shared.bounded_http import BoundedTransport
from shared.public_addresses import PublicUrl, check_url, is_public

log = structlog.get_logger(__name__)

MAX_PARTS = 2000
"""A body in more parts is refused: parsing a mebibyte of one-byte chunks takes seconds."""
FETCH_SECONDS = 3.0
TOTAL_SECONDS = 8.0
"""How long a document waits for its logo, including the wait for other logos."""
FETCHES_AT_ONCE = 8
RESOLVERS = 4

CACHE_SECONDS = 600.0
MISSING_SECONDS = 60.0
"""How long a URL without a usable logo is not fetched again."""
CACHE_ENTRIES = 200
CACHE_BYTES = 32 * 1024 * 1024

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the IP addresses of a host."""


class NotALogo(Exception):
    """There is no picture that can be shown."""


_FAILURES = (NotALogo, NotAPicture, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


class Resolver:
    """The system's resolver, in threads of its own.

    A name whose servers never answer occupies a thread for half a minute. In the event loop's
    threads it would delay the lookup of the database and the broker.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="logo-resolver")

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host; raises OSError."""
        loop = asyncio.get_running_loop()
        entries = await loop.run_in_executor(
            self._threads, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        )
        return [str(entry[4][0]) for entry in entries]

    def close(self) -> None:
        """Start no more lookups and wait for none."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class LogoCache:
    """A cache of logos by URL, and of URLs without a logo; limited in number and bytes."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()
        self._bytes = 0

    def get(self, url: str) -> tuple[bool, bytes | None]:
        """Return whether the URL is in the cache, and its logo."""
        until, logo = self._entries.get(url, (0.0, None))
        return until > time.monotonic(), logo

    def put(self, url: str, logo: bytes | None) -> None:
        """Store a logo, or that there is none; remove the oldest entries for it."""
        self._remove(url)
        seconds = MISSING_SECONDS if logo is None else CACHE_SECONDS
        self._entries[url] = (time.monotonic() + seconds, logo)
        self._bytes += len(logo or b"")
        while len(self._entries) > CACHE_ENTRIES or self._bytes > CACHE_BYTES:
            self._remove(next(iter(self._entries)))

    def _remove(self, url: str) -> None:
        _, logo = self._entries.pop(url, (0.0, None))
        self._bytes -= len(logo or b"")


class Logos:
    """Fetches logos, each URL once at a time, and caches them.

    The parameters replace the outside world in tests.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
        studio: PictureStudio | None = None,
    ) -> None:
        self._resolver = Resolver()
        self._resolve = resolve or self._resolver.resolve
        self._studio = studio or PictureStudio()
        self._cache = LogoCache()
        self._under_way: dict[str, asyncio.Task[bytes | None]] = {}
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._client = httpx.AsyncClient(
            transport=transport or BoundedTransport(FETCHES_AT_ONCE, MAX_BYTES),
            timeout=FETCH_SECONDS,
            trust_env=False,
        )

    async def find(self, url: str | None) -> bytes | None:
        """Return the logo as PNG, or None when there is none to show."""
        if not url:
            return None
        is_cached, logo = self._cache.get(url)
        if is_cached:
            return logo
        task = self._under_way.get(url)
        if task is None:
            task = asyncio.create_task(self._obtain(url))
            self._under_way[url] = task
            task.add_done_callback(lambda _: self._under_way.pop(url, None))
        # A request that is cancelled does not cancel the fetch for the others.
        return await asyncio.shield(task)

    async def _obtain(self, url: str) -> bytes | None:
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                async with self._fetches, asyncio.timeout(FETCH_SECONDS):
                    picture = await self._read(check_url(url))
                logo = await self._studio.draw(picture)
        except _FAILURES as error:
            log.info("logo_not_shown", cause=repr(error))
            logo = None
        self._cache.put(url, logo)
        return logo

    async def _read(self, url: PublicUrl) -> bytes:
        request = await self._request(url)
        answer = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            if answer.status_code != 200:
                raise NotALogo(f"status {answer.status_code}")
            # We accept no encoding: a compressed kilobyte can become gigabytes.
            if "content-encoding" in answer.headers:
                raise NotALogo("the answer is encoded")
            return await _bounded(answer)
        finally:
            await answer.aclose()

    async def _request(self, url: PublicUrl) -> httpx.Request:
        """Return a request to the very IP address that was checked: the name is not resolved again.

        Raises NotALogo.
        """
        addresses = await self._resolve(url.host, url.port)
        if not addresses or not all(map(is_public, addresses)):
            raise NotALogo("not a public address")
        return self._client.build_request(
            "GET",
            httpx.URL(url.text).copy_with(host=addresses[0]),
            headers={
                "Host": url.authority,
                "Accept": "image/png, image/jpeg",
                "Accept-Encoding": "identity",
            },
            extensions={"sni_hostname": url.host},
        )

    async def aclose(self) -> None:
        """Cancel the fetches under way and close every connection."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()
        self._resolver.close()


async def _bounded(answer: httpx.Response) -> bytes:
    """Read a body; raises NotALogo when it has too many bytes or parts."""
    read, parts = bytearray(), 0
    async for part in answer.aiter_bytes():
        read += part
        parts += 1
        if len(read) > MAX_BYTES or parts > MAX_PARTS:
            raise NotALogo("too large")
    return bytes(read)
