"""Connections to one instance of a service, kept open between requests."""

import asyncio
import ssl

from gateway.upstream.connection import UpstreamConnection


class CannotConnect(Exception):
    """There is no connection to be had, so nothing of the request was received."""


class ConnectionPool:
    """The idle connections to one address. Seconds.

    How many there are is bounded by the requests that may be at a service at the same time.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls_name: str | None,
        connect_timeout: float,
        idle_timeout: float,
    ) -> None:
        self._host = host
        self._port = port
        self._tls_name = tls_name  # whom the certificate must name; None for no TLS
        self._tls = ssl.create_default_context() if tls_name else None
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._idle: list[UpstreamConnection] = []
        self._closed = False

    async def acquire(self) -> UpstreamConnection:
        """An idle connection, the one used last, or a new one. Raises CannotConnect."""
        idle = self._idle
        if idle:
            oldest = asyncio.get_running_loop().time() - self._idle_timeout
            while idle:
                connection = idle.pop()
                if connection.idle_since < oldest:
                    connection.close()
                elif connection.is_open:
                    return connection
        return await self._connect()

    def close_idle(self) -> None:
        """Close what is idle: the other end may have gone without our having noticed yet."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it becomes free."""
        self._closed = True
        self.close_idle()

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self._release),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._tls_name,
                )
        except (OSError, TimeoutError) as error:
            raise CannotConnect from error
        return connection

    def _release(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
