"""Logos of organizations, fetched from a URL that the organization chose.

Only public addresses are contacted, whatever the URL's name resolves to. The response is limited in
bytes, parts and seconds, and a separate process draws the picture again before it is put into a
document. Nothing here occupies the event loop or threads that others need: at worst there is no
logo.
"""

import asyncio
import time
from collections import OrderedDict

import httpx
import structlog

from services.payments.documents.picture_program import MAX_BYTES
from services.payments.documents.pictures import NotAPicture, PictureStudio
from shared.public_addresses import check_url
from shared.public_files import FETCH_FAILURES, FetchLimits, PublicFiles, Resolve

log = structlog.get_logger(__name__)

MAX_PARTS = 2000
"""A body in more parts is refused: parsing a mebibyte of one-byte chunks takes seconds."""
FETCH_SECONDS = 3.0
TOTAL_SECONDS = 8.0
"""How long a document waits for its logo, including the wait for other logos."""
FETCHES_AT_ONCE = 8

CACHE_SECONDS = 600.0
MISSING_SECONDS = 60.0
"""How long a URL without a usable logo is not fetched again."""
CACHE_ENTRIES = 200
CACHE_BYTES = 32 * 1024 * 1024


class NotALogo(Exception):
    """There is no picture that can be shown."""


_FAILURES = (NotALogo, NotAPicture, *FETCH_FAILURES)
_ACCEPTED = {"Accept": "image/png, image/jpeg"}
_LIMITS = FetchLimits(FETCHES_AT_ONCE, MAX_BYTES, MAX_PARTS, FETCH_SECONDS)


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
        self._files = PublicFiles(_LIMITS, transport, resolve)
        self._studio = studio or PictureStudio()
        self._cache = LogoCache()
        self._under_way: dict[str, asyncio.Task[bytes | None]] = {}

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
                file = await self._files.fetch(check_url(url), _ACCEPTED)
                if file.status != 200:
                    raise NotALogo(f"status {file.status}")
                logo = await self._studio.draw(file.body)
        except _FAILURES as error:
            log.info("logo_not_shown", cause=repr(error))
            logo = None
        self._cache.put(url, logo)
        return logo

    async def aclose(self) -> None:
        """Cancel the fetches under way and close every connection."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._files.aclose()
