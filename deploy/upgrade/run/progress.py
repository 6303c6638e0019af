"""What an operator sees while rows move: a bar in a terminal, plain lines elsewhere."""

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
    """Is told how far one table is."""

    def advance(self, rows: int) -> None:
        """Count rows that are safe in the target."""

    def end(self) -> None:
        """Finish the table."""


class ProgressDisplay(Protocol):
    """Is told what is worked at, and shows it; several tables may be under way at once."""

    def begin(self, what: str, total: int, done: int) -> TableProgress:
        """Begin with a table of `total` rows, of which some are done already."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave what was shown."""


class NoProgress:
    """Tells nobody."""

    def begin(self, what: str, total: int, done: int) -> TableProgress:
        """Tell nothing."""
        return self

    def __enter__(self) -> Self:
        """Tell nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Tell nothing."""

    def advance(self, rows: int) -> None:
        """Tell nothing."""

    def end(self) -> None:
        """Tell nothing."""


class ProgressLines:
    """Plain lines on standard error, for logs: one when a table ends, one each few seconds."""

    def begin(self, what: str, total: int, done: int) -> TableProgress:
        """Begin with a table."""
        return _LineProgress(what, total, done)

    def __enter__(self) -> Self:
        """Begin to tell."""
        return self

    def __exit__(self, *_: object) -> None:
        """Tell nothing more."""


class _LineProgress:
    def __init__(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._done, self._before = what, total, done, done
        self._began = self._told = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done += rows
        if time.monotonic() - self._told >= LINE_EVERY_SECONDS:
            self._tell()

    def end(self) -> None:
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        seconds = max(self._told - self._began, 0.001)
        if not self._total:
            print(f"{self._what}: done in {seconds:.0f} s", file=sys.stderr, flush=True)
            return
        rate = (self._done - self._before) / seconds
        left = (self._total - self._done) / rate if rate else 0
        print(
            f"{self._what}: {self._done:,} of {self._total:,} rows, {rate:,.0f}/s,"
            f" {max(left, 0):.0f} s left",
            file=sys.stderr,
            flush=True,
        )


class ProgressBars:
    """One bar for each table, with its rate and the time that remains."""

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

    def begin(self, what: str, total: int, done: int) -> TableProgress:
        """Begin with a table."""
        return _BarProgress(self._progress, what, total, done)

    def __enter__(self) -> Self:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        self._progress.stop()


class _BarProgress:
    def __init__(self, progress: Progress, what: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total, completed=done, rate="–")
        self._began, self._moved = time.monotonic(), 0

    def advance(self, rows: int) -> None:
        self._moved += rows
        rate = self._moved / max(time.monotonic() - self._began, 0.001)
        self._progress.update(self._task, advance=rows, rate=f"{rate:,.0f}")

    def end(self) -> None:
        self._progress.stop_task(self._task)


def progress_display(*, quiet: bool) -> ProgressDisplay:
    """Return what suits where the output goes."""
    if quiet:
        return NoProgress()
    console = Console(stderr=True)
    return ProgressBars(console) if console.is_terminal else ProgressLines()
