"""The progress that an operator sees while rows are copied: bars in a terminal, else lines."""

import sys
import time
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 5.0


class TableProgress(Protocol):
    """Shows the progress of one table."""

    def advance(self, rows: int) -> None:
        """Add rows that were committed in the target."""

    def end(self) -> None:
        """Show that the table is finished."""


class ProgressDisplay(Protocol):
    """Shows the progress of several tables at once."""

    def begin(self, name: str, total: int, done: int) -> TableProgress:
        """Begin a table of `total` rows, `done` of which are copied already."""

    def __enter__(self) -> Self:
        """Start the display."""

    def __exit__(self, *_: object) -> None:
        """End the display and leave its text."""


class NoProgress:
    """Shows nothing."""

    def begin(self, name: str, total: int, done: int) -> TableProgress:
        """Do nothing."""
        return self

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def advance(self, rows: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class ProgressLines:
    """Plain lines on standard error, for logs: one every few seconds and one when a table ends."""

    def begin(self, name: str, total: int, done: int) -> TableProgress:
        """Begin a table."""
        return _LineProgress(name, total, done)

    def __enter__(self) -> Self:
        """Do nothing; lines need no start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing; lines need no end."""


class _LineProgress:
    def __init__(self, name: str, total: int, done: int) -> None:
        self._name, self._total, self._done, self._before = name, total, done, done
        self._began = self._printed_at = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done += rows
        if time.monotonic() - self._printed_at >= LINE_EVERY_SECONDS:
            self._print()

    def end(self) -> None:
        self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        seconds = max(self._printed_at - self._began, 0.001)
        if not self._total:
            print(f"{self._name}: done in {seconds:.0f} s", file=sys.stderr, flush=True)
            return
        rate = (self._done - self._before) / seconds
        remaining = (self._total - self._done) / rate if rate else 0
        print(
            f"{self._name}: {self._done:,} of {self._total:,} rows, {rate:,.0f}/s,"
            f" {max(remaining, 0):.0f} s left",
            file=sys.stderr,
            flush=True,
        )


class ProgressBars:
    """One bar for each table, with its rate and the remaining time."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.completed:>12,.0f} of {task.total:,.0f}"),
            TextColumn("{task.fields[rate]:>9}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )

    def begin(self, name: str, total: int, done: int) -> TableProgress:
        """Begin a table."""
        return _BarProgress(self._progress, name, total, done)

    def __enter__(self) -> Self:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop updating the bars."""
        self._progress.stop()


class _BarProgress:
    def __init__(self, progress: Progress, name: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=total, completed=done, rate="–")
        self._began, self._moved = time.monotonic(), 0

    def advance(self, rows: int) -> None:
        self._moved += rows
        rate = self._moved / max(time.monotonic() - self._began, 0.001)
        self._progress.update(self._task, advance=rows, rate=f"{rate:,.0f}")

    def end(self) -> None:
        self._progress.stop_task(self._task)


def progress_display(*, quiet: bool) -> ProgressDisplay:
    """Return bars for a terminal, lines for another output, nothing if quiet."""
    if quiet:
        return NoProgress()
    console = Console(stderr=True)
    return ProgressBars(console) if console.is_terminal else ProgressLines()
