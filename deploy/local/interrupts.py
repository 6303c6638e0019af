"""Requests to stop (SIGINT, SIGTERM, SIGHUP) during a command's work."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import typer

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
    for number in _REQUESTS:
        loop.add_signal_handler(number, interrupts.tell, number)
    task = asyncio.ensure_future(work(interrupts))

    def cancel(_: signal.Signals) -> None:
        interrupts.told = ignore  # a second one must not interrupt the cleaning up
        task.cancel()

    interrupts.told = cancel
    return await task


def say(line: str) -> None:
    """Tell a person one line, on standard error: output belongs to commands."""
    print(f"carnet: {line}", file=sys.stderr, flush=True)


def exit_with(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> None:
    """Exit with what a command's work returns, or 130 when a request to stop cut it short."""
    try:
        code = asyncio.run(interruptible(work))
    except asyncio.CancelledError:
        say("stopped")
        code = 130
    raise typer.Exit(code)
