"""The way of calls to services and card gateways: httpx's interface over aiohttp's connections.

httpx's own transport takes two to three milliseconds of processor time for a call among sixteen at
once, aiohttp two tenths of one (see docs/performance.md). The transports that others publish tell a
connection that broke after the request like one that was never made; whoever repeats a call must
know which it was.
"""

import aiohttp
import httpx

CONNECTIONS = 100
CONNECT_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 15.0
"""Shorter than our servers keep an idle connection, so that we seldom use one they just closed."""

_NOT_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class PooledTransport(httpx.AsyncBaseTransport):
    """Connections that are kept, to any number of addresses.

    Raises httpx.ConnectError when nothing of the request was sent, and another httpx.HTTPError when
    it may have arrived. Of a timeout, only the read timeout counts: for the whole call.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole answer."""
        seconds = request.extensions.get("timeout", {}).get("read")
        try:
            async with self._opened().request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as answer:
                return httpx.Response(
                    answer.status,
                    headers=answer.raw_headers,
                    content=await answer.read(),
                    request=request,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error), request=request) from error

    def _opened(self) -> aiohttp.ClientSession:
        # Only inside a running loop can it be made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does
                skip_auto_headers=_NOT_OURS,
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
