"""Requests to stop (SIGINT, SIGTERM, SIGHUP) during a command's work."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from deploy.local.console import say

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore(_: signal.Signals) -> None:
    """Do nothing: what is under way must not be interrupted."""


class Interrupts:
    """Whom a request to stop is told; `told` may be exchanged as the work goes on."""

    def __init__(self) -> None:
        self.told: Callable[[signal.Signals], None] = ignore

    def tell(self, number: signal.Signals) -> None:
        """Pass a request on."""
        self.told(number)


async def interruptible(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run work that the first request to stop cancels, unless it wants to be told otherwise."""
    interrupts = Interrupts()
    loop = asyncio.get_running_loop()
    for number in _requests():
        loop.add_signal_handler(number, interrupts.tell, number)
    # After `stty tostop`, a background job that writes to its terminal would be stopped by this.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    task = asyncio.ensure_future(work(interrupts))

    def cancel(_: signal.Signals) -> None:
        interrupts.told = ignore  # a second one must not interrupt the cleaning up
        task.cancel()

    interrupts.told = cancel
    return await task


def _requests() -> list[signal.Signals]:
    """Return the signals that ask to stop; under `nohup` SIGHUP stays ignored."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in _REQUESTS if not (nohup and number is signal.SIGHUP)]


class StopRequests:
    """Tells a first request to stop from an impatient second one, which kills what is slow.

    One Ctrl-C or closed window can arrive several times: from the terminal, the shell and make.
    So a request counts as impatient only when it is no SIGHUP and comes some time after the first.
    """

    AT_LEAST_APART_SECONDS = 0.5

    def __init__(self, kill_now: Callable[[], None], say: Callable[[str], None]) -> None:
        self._kill_now = kill_now
        self._say = say
        self._first: float | None = None
        self._requested = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the first request."""
        await self._requested.wait()

    def receive(self, number: signal.Signals) -> None:
        """Take a request: the first one stops, a later one kills."""
        moment = asyncio.get_running_loop().time()
        if self._first is None:
            self._first = moment
            self._requested.set()
            self._say("stopping; once more to kill what is slow")
        elif number != signal.SIGHUP and moment - self._first >= self.AT_LEAST_APART_SECONDS:
            self._kill_now()


def exit_with(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> None:
    """Exit with what a command's work returns, or 130 when a request to stop cut it short."""
    try:
        code = asyncio.run(interruptible(work))
    except asyncio.CancelledError:
        say("stopped")
        code = 130
    raise typer.Exit(code)
