"""Cancels the handling of a request when its client disconnects."""

import asyncio

from starlette.types import Receive

from gateway.errors import ClientDisconnected


class DisconnectWatch:
    """Cancels the task of an exchange when its client disconnects while a service is working.

    Watching starts after `delay` seconds: most responses have arrived by then, and the watching
    task costs more than they do. Use it as an async context manager; the block raises
    ClientDisconnected.
    """

    __slots__ = ("_delay", "_gone", "_handle", "_owner", "_receive", "_task")

    def __init__(self, receive: Receive, *, delay: float = 0.05) -> None:
        self._receive = receive
        self._delay = delay  # seconds
        self._gone = False
        self._owner: asyncio.Task[object] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "DisconnectWatch":
        self._owner = asyncio.current_task()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end()
        if kind is asyncio.CancelledError and self._gone:
            assert self._owner is not None
            if self._owner.uncancel() == 0:
                raise ClientDisconnected from None

    def begin(self) -> None:
        """Start watching. The request's body must be complete: only one task may receive."""
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self._delay, self._start)

    def end(self) -> None:
        """Stop watching. Call it before the last piece: after that a disconnect is normal."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        assert self._owner is not None
        self._owner.cancel()
