"""Which processes there are behind the services' names, asked again every few seconds.

A name of Docker Compose or of a headless service in Kubernetes stands for one address per
process. Connections are kept open, so without asking again a process that was added would get
nothing for long, and one that was taken away would be tried for ever.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from gateway.upstream.instances import Instance, Upstream, UpstreamOrigin

log = structlog.get_logger(__name__)

ResolveName = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name and port; raises OSError when there is no answer."""

_PATIENCE = 5.0  # seconds for one look-up


async def system_resolve(name: str, port: int) -> Sequence[str]:
    """Ask the system's resolver: a hosts file, or the name server."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class InstanceResolver:
    """Keeps the upstreams' instances up to date while its `running` block lasts.

    `on_removed` is called with each instance that is there no longer. `every` is in seconds.
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
        """Look names up in the background until the block ends."""
        tasks = [asyncio.create_task(self._follow(upstream)) for upstream in self._upstreams]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, upstream: Upstream) -> None:
        while True:
            found = {o: await self._look_up(o) for o in upstream.origins if not o.is_numeric}
            for instance in upstream.update(found):
                log.info("instance_gone", upstream=upstream.service.value, address=instance.host)
                self._on_removed(instance)
            await asyncio.sleep(self._every)

    async def _look_up(self, origin: UpstreamOrigin) -> Sequence[str]:
        """The addresses of a name, none when they cannot be had just now."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                return await self._resolve(origin.name, origin.port)
        log.warning("name_not_resolved", name=origin.name)
        return ()
