"""Signals that request a stop (SIGINT, SIGTERM, SIGHUP) while a command works."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from deploy.local.console import say

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore(_: signal.Signals) -> None:
    """Do nothing: the present work must not be interrupted."""


class Interrupts:
    """Receives requests to stop; `handler` may be replaced at any time."""

    def __init__(self) -> None:
        self.handler: Callable[[signal.Signals], None] = ignore

    def receive(self, number: signal.Signals) -> None:
        """Pass a request to the present handler."""
        self.handler(number)


async def interruptible(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run work that the first request to stop cancels, unless it sets another handler."""
    interrupts = Interrupts()
    loop = asyncio.get_running_loop()
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in _REQUESTS:
        if not (nohup and number is signal.SIGHUP):  # `nohup` wants SIGHUP to be ignored
            loop.add_signal_handler(number, interrupts.receive, number)
    # After `stty tostop` a background job that writes to its terminal gets this signal.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    task = asyncio.ensure_future(work(interrupts))

    def cancel(_: signal.Signals) -> None:
        interrupts.handler = ignore  # a second request must not interrupt the cleanup
        task.cancel()

    interrupts.handler = cancel
    return await task


class StopRequests:
    """Stops at the first request and kills slow processes at an impatient second one.

    One Ctrl-C or closed window can arrive several times: from the terminal, the shell and make.
    So a request is impatient only if it is no SIGHUP and arrives some time after the first.
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
        """Handle a request: the first one stops, a later one kills."""
        moment = asyncio.get_running_loop().time()
        if self._first is None:
            self._first = moment
            self._requested.set()
            self._say("stopping; press Ctrl-C again to kill slow processes")
        elif number != signal.SIGHUP and moment - self._first >= self.AT_LEAST_APART_SECONDS:
            self._kill_now()


def exit_with(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> None:
    """Exit with the code that the work returns, or with 130 when a request to stop cancelled it."""
    try:
        code = asyncio.run(interruptible(work))
    except asyncio.CancelledError:
        say("stopped")
        code = 130
    raise typer.Exit(code)
