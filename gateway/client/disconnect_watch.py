"""Ends the work for a client that went away."""

import asyncio

from starlette.types import Receive

from gateway.errors import ClientDisconnected


class DisconnectWatch:
    """Ends the task of an exchange when its client goes away while a service is at work.

    It begins after a moment, because most answers are there by then and a task costs more than
    they do. Use as an async context manager; raises ClientDisconnected from the block.
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
        """Start watching; only when nobody else reads the request's body any more."""
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self._delay, self._start)

    def end(self) -> None:
        """Stop watching; before the last piece is sent, after which "disconnected" is normal."""
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
