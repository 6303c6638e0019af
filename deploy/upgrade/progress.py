"""What an operator sees while rows move: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 5.0


class Told(Protocol):
    """Is told how far each table is."""

    def begin(self, what: str, total: int, done: int) -> None:
        """Begin with a table of `total` rows, of which some are done already."""

    def advance(self, rows: int) -> None:
        """Count rows that are safe in the target."""

    def end(self) -> None:
        """Finish the table."""


class Silence:
    """Tells nobody."""

    def begin(self, what: str, total: int, done: int) -> None:
        """Tell nothing."""

    def advance(self, rows: int) -> None:
        """Tell nothing."""

    def end(self) -> None:
        """Tell nothing."""


class Lines:
    """Plain lines on standard error, for logs: one when a table ends, one each few seconds."""

    def __init__(self) -> None:
        self._what, self._total, self._done, self._before = "", 0, 0, 0
        self._began = self._told = time.monotonic()

    def begin(self, what: str, total: int, done: int) -> None:
        """Begin with a table."""
        self._what, self._total, self._done, self._before = what, total, done, done
        self._began = self._told = time.monotonic()

    def advance(self, rows: int) -> None:
        """Count rows."""
        self._done += rows
        if time.monotonic() - self._told >= LINE_EVERY_SECONDS:
            self._tell()

    def end(self) -> None:
        """Finish the table."""
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        if not self._total:
            print(f"{self._what}: done", file=sys.stderr, flush=True)
            return
        seconds = max(self._told - self._began, 0.001)
        rate = (self._done - self._before) / seconds
        left = (self._total - self._done) / rate if rate else 0
        print(
            f"{self._what}: {self._done:,} of {self._total:,} rows, {rate:,.0f}/s,"
            f" {max(left, 0):.0f} s left",
            file=sys.stderr,
            flush=True,
        )


class Bars:
    """One bar for each table, with its rate and the time that remains."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.completed:>12,.0f} of {task.total:,.0f}"),
            TextColumn("{task.fields[rate]:>9}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None
        self._began, self._moved = time.monotonic(), 0

    def begin(self, what: str, total: int, done: int) -> None:
        """Begin with a table."""
        self._progress.start()
        self._began, self._moved = time.monotonic(), 0
        self._task = self._progress.add_task(what, total=total, completed=done, rate="–")

    def advance(self, rows: int) -> None:
        """Count rows."""
        if self._task is not None:
            self._moved += rows
            rate = self._moved / max(time.monotonic() - self._began, 0.001)
            self._progress.update(self._task, advance=rows, rate=f"{rate:,.0f}")

    def end(self) -> None:
        """Finish the table; the bars stay on the screen."""
        self._progress.stop()


def teller(*, quiet: bool) -> Told:
    """Return what suits where the output goes."""
    if quiet:
        return Silence()
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()
