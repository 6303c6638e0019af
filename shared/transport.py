"""The transport of calls to services and card gateways: httpx's interface, aiohttp's connections.

httpx's own transport takes 2 to 3 milliseconds of CPU for a call among sixteen at once, aiohttp 0.2
(see docs/performance.md). Published transports report a connection that broke after the request
like one that was never opened; code that repeats a call must be able to distinguish them.
"""

import aiohttp
import httpx

CONNECTIONS = 100
CONNECT_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 15.0
"""Shorter than the servers' own limit, so that a connection is seldom closed when it is used."""

_SKIPPED_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class PooledTransport(httpx.AsyncBaseTransport):
    """A pool of connections to any number of addresses.

    Raises httpx.ConnectError if nothing of the request was sent, and another httpx.HTTPError if it
    may have arrived. The read timeout of a request is the limit of the whole call, in seconds.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole response."""
        seconds = request.extensions.get("timeout", {}).get("read")
        try:
            async with self._client().request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                return httpx.Response(
                    response.status,
                    headers=response.raw_headers,
                    content=await response.read(),
                    request=request,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error), request=request) from error

    def _client(self) -> aiohttp.ClientSession:
        # It can be created in a running event loop only.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does
                skip_auto_headers=_SKIPPED_HEADERS,
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
