"""Connections to one instance of a service that stay open between requests."""

import asyncio
import ssl

from gateway.upstream.connection import UpstreamConnection


class CannotConnect(Exception):
    """No connection was established, so nothing of the request was received."""


class ConnectionPool:
    """The idle connections to one address. Timeouts are in seconds.

    The limit of requests that are at a service at the same time limits their number, too.
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
        self._tls_name = tls_name  # the name in the certificate; None without TLS
        self._tls = ssl.create_default_context() if tls_name else None
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._idle: list[UpstreamConnection] = []
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def take_idle(self) -> UpstreamConnection | None:
        """Return the idle connection used last, or None if there is none."""
        oldest = self._loop.time() - self._idle_timeout
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since < oldest:
                connection.close()
            elif connection.can_send:
                return connection
        return None

    async def acquire(self) -> UpstreamConnection:
        """Return the idle connection used last, or a new one. Raises CannotConnect."""
        idle = self.take_idle()
        if idle is not None:
            return idle
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self._release),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._tls_name,
                )
        except (OSError, TimeoutError) as error:
            raise CannotConnect from error
        return connection

    def close_idle(self) -> None:
        """Close the idle connections: the other end may have closed them already."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close the idle connections now and the others when they become idle."""
        self._closed = True
        self.close_idle()

    def _release(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
