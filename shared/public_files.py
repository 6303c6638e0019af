"""Files from addresses that users chose: from the public internet only, and within limits.

Whatever the name in an address resolves to, only public IP addresses are contacted. The request is
sent to the very IP address that was checked, so that the name is not resolved a second time. Bodies
are limited in bytes, in parts and in seconds.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import httpx

from shared.bounded_http import BoundedTransport
from shared.public_addresses import PublicUrl, is_public

RESOLVERS = 4

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the IP addresses of a host."""


class NotFetched(Exception):
    """A file cannot be fetched; the text states why."""


FETCH_FAILURES = (NotFetched, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)
"""What `PublicFiles.fetch` raises; TimeoutError is an OSError."""


@dataclass(frozen=True, slots=True)
class PublicFile:
    """The response to a request; the body is empty unless the status is 200."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Resolver:
    """The system's resolver, in threads of its own.

    A name whose servers never answer occupies a thread for half a minute. In the event loop's
    threads it would delay the lookup of the database and the broker.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="public-resolver")

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


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How many requests are sent at once, and the bytes, the parts and the seconds of each."""

    at_once: int
    body_bytes: int
    body_parts: int
    seconds: float


class PublicFiles:
    """Fetches files within limits. `transport` and `resolve` replace the network in tests."""

    def __init__(
        self,
        limits: FetchLimits,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._limits = limits
        self._resolver = Resolver()
        self._resolve = resolve or self._resolver.resolve
        self._turns = asyncio.Semaphore(limits.at_once)
        self._client = httpx.AsyncClient(
            transport=transport or BoundedTransport(limits.at_once, limits.body_bytes),
            timeout=limits.seconds,
            trust_env=False,
        )

    async def fetch(self, url: PublicUrl, headers: Mapping[str, str]) -> PublicFile:
        """Return the response to a GET request. Redirects are not followed.

        Raises one of FETCH_FAILURES. Waits for its turn without a limit: the caller has one.
        """
        async with self._turns, asyncio.timeout(self._limits.seconds):
            request = await self._request(url, headers)
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                return await self._read(response)
            finally:
                await response.aclose()

    async def _request(self, url: PublicUrl, headers: Mapping[str, str]) -> httpx.Request:
        addresses = await self._resolve(url.host, url.port)
        if not addresses or not all(map(is_public, addresses)):
            raise NotFetched("not a public address")
        return self._client.build_request(
            "GET",
            httpx.URL(url.text).copy_with(host=addresses[0]),
            headers={**headers, "Host": url.authority, "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.host},
        )

    async def _read(self, response: httpx.Response) -> PublicFile:
        if response.status_code != 200:
            return PublicFile(response.status_code, response.headers, b"")
        # We accept no encoding: a compressed kilobyte can become gigabytes.
        if "content-encoding" in response.headers:
            raise NotFetched("the answer is encoded")
        read, parts = bytearray(), 0
        async for part in response.aiter_bytes():
            read += part
            parts += 1
            if len(read) > self._limits.body_bytes or parts > self._limits.body_parts:
                raise NotFetched("the answer is too large")
        return PublicFile(200, response.headers, bytes(read))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        self._resolver.close()
