"""Lines for the user at the terminal, written so that no terminal or pipe stops the program.

A write to a closed terminal fails with EIO, to a pipe without a reader with EPIPE, and a write to a
pipe that is full and not read blocks. A supervisor must survive all three (decision 0035).
"""

import atexit
import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

MOST_WAITING = 1000
"""How many lines may wait for a reader. More lines are dropped and counted."""

AT_EXIT_SECONDS = 1.0
"""How long the program waits at its end for lines that are not written yet."""


class Console:
    """One output of the process. A thread writes to it, so `write` neither blocks nor raises."""

    def __init__(self, descriptor: int | None) -> None:
        """Without a descriptor (the output was closed at the start) every line is dropped."""
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Write a line soon, or drop it if the output fails or too many lines are waiting."""
        if self._descriptor is None:
            return
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(f"{line}\n".encode(errors="backslashreplace"))
            self._changed.notify_all()
            if self._thread is None:
                # A daemon: a write that never returns must not prevent the end of the process.
                self._thread = threading.Thread(
                    target=self._run,
                    args=(self._descriptor,),
                    name=f"console {self._descriptor}",
                    daemon=True,
                )
                self._thread.start()
                atexit.register(self.drain, AT_EXIT_SECONDS)

    def drain(self, seconds: float) -> bool:
        """Wait until every line is written, for at most `seconds`; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout=seconds)

    def _run(self, descriptor: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                line = self._waiting[0]
                lost_lines, self._dropped = self._dropped, 0
            with contextlib.suppress(OSError):  # the line is lost
                if lost_lines:
                    _write_all(descriptor, f"({lost_lines} lines were left out here)\n".encode())
                _write_all(descriptor, line)
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()


def _write_all(descriptor: int, text: bytes) -> None:
    while text:
        try:
            text = text[os.write(descriptor, text) :]
        except BlockingIOError:  # another program made the shared terminal non-blocking
            select.select([], [descriptor], [])


def _descriptor_of(stream: TextIO | None, number: int) -> int | None:
    """Return the number, or None if Python found it closed: it may belong to another file then."""
    return None if stream is None else number


output = Console(_descriptor_of(sys.__stdout__, 1))
"""Standard output: the result of a command while our processes run."""

errors = Console(_descriptor_of(sys.__stderr__, 2))
"""Standard error: progress and problems."""


def say(line: str) -> None:
    """Write one line for the user to standard error; standard output is for results."""
    errors.write(f"carnet: {line}")


def say_and_log(file: Path) -> Callable[[str], None]:
    """Return a `say` that also appends each line, with its time, to a log file.

    The log has what a closed terminal does not show. A log that cannot be written is ignored.
    """

    def both(line: str) -> None:
        say(line)
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            with open(file, "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as log:
                log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")

    return both
