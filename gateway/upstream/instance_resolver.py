"""Resolves the names of the services every few seconds to find their instances.

A name of Docker Compose or of a headless service in Kubernetes has one address for each process.
Connections stay open, so if names were resolved only once, an added process would receive no
requests, and a removed one would be tried forever.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import structlog

from gateway.upstream.instances import Instance, Upstream, UpstreamOrigin

log = structlog.get_logger(__name__)

ResolveName = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name and port. Raises OSError if it cannot be resolved."""

_TIMEOUT = 5.0  # seconds for one name


async def system_resolve(name: str, port: int) -> Sequence[str]:
    """Resolve a name with the system's resolver: the hosts file, or the name server."""
    loop = asyncio.get_running_loop()
    results = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in results))


class InstanceResolver:
    """Keeps the upstreams' instances current while its `running` block lasts.

    `on_removed` is called with each instance that was removed. `every` is in seconds.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        on_removed: Callable[[Instance], None],
        *,
        every: float,
        resolve: ResolveName = system_resolve,
    ) -> None:
        self._upstreams = [u for u in upstreams if not all(o.is_numeric for o in u.origins)]
        self._on_removed = on_removed
        self._every = every
        self._resolve = resolve

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Resolve names in the background until the block ends."""
        tasks = [asyncio.create_task(self._keep_current(upstream)) for upstream in self._upstreams]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_current(self, upstream: Upstream) -> None:
        while True:
            addresses: dict[UpstreamOrigin, Sequence[str]] = {}
            for origin in upstream.origins:
                if origin.is_numeric:
                    continue
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        addresses[origin] = await self._resolve(origin.name, origin.port)
                except (OSError, TimeoutError):
                    log.warning("name_not_resolved", name=origin.name)
            for instance in upstream.update(addresses):
                log.info("instance_gone", upstream=upstream.service.value, address=instance.host)
                self._on_removed(instance)
            await asyncio.sleep(self._every)
