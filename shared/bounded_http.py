"""HTTP to unknown servers: the bytes of a response are limited before they are parsed.

The parser handles the bytes of one read in one turn of the event loop, and it skips informational
responses (1xx, RFC 9110, section 15.2) without a limit: a server that sends nothing else would keep
the loop busy for as long as the request may take.
"""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

READ_BYTES = 4096
HEAD_BYTES = 32 * 1024
"""The size of everything before the body, including informational responses."""
FRAMING_BYTES = 64 * 1024
"""What the framing of a chunked body may add to its size."""


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection that is read in small parts, up to a limit."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = HEAD_BYTES

    def allow(self, more: int) -> None:
        """Raise the limit by `more` bytes."""
        self._left += more

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Read some bytes; raises httpcore.ReadError when the limit is reached."""
        if self._left <= 0:
            raise httpcore.ReadError("the answer is too long")
        data = await self._stream.read(min(max_bytes, READ_BYTES), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write all of it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Return the encrypted stream over this one, with the same limits."""
        return BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return a property of the connection."""
        return self._stream.get_extra_info(info)


class _Backend(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return BoundedStream(
            await super().connect_tcp(host, port, timeout, local_address, socket_options)
        )


class BoundedTransport(httpx.AsyncHTTPTransport):
    """A transport with one connection for each request, at most `connections` at once.

    A body may have `body_bytes`. Raises httpx.ReadError for an answer that is longer.
    """

    def __init__(self, connections: int, body_bytes: int) -> None:
        super().__init__(trust_env=False)
        self._body_bytes = body_bytes
        # The library has no parameter for the backend.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=connections,
            # Two hosts behind one IP address must not share a connection.
            max_keepalive_connections=0,
            network_backend=_Backend(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the head of its answer."""
        response = await super().handle_async_request(request)
        stream = response.extensions.get("network_stream")
        if isinstance(stream, BoundedStream):
            stream.allow(self._body_bytes + FRAMING_BYTES)
        return response
