"""Lines for the person at the terminal, written so that no terminal or pipe stops the program.

A closed terminal answers EIO, a pipe without a reader EPIPE, and a pipe that nobody empties blocks
its writer for ever. A supervisor must survive all three: see decision 0035.
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
"""Lines that may wait for a reader; what is written beyond them is dropped and counted."""

AT_EXIT_SECONDS = 1.0
"""How long the end of the program waits for lines that are not written yet."""


class Console:
    """One output of the process. A thread writes, so that `write` neither blocks nor raises."""

    def __init__(self, descriptor: int | None) -> None:
        """Without a descriptor (the output was closed before the start) every line is dropped."""
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Write a line soon; drop it when the output fails or too many lines wait already."""
        if self._descriptor is None:
            return
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(f"{line}\n".encode(errors="backslashreplace"))
            self._changed.notify_all()
            if self._thread is None:
                self._start(self._descriptor)

    def drain(self, seconds: float) -> bool:
        """Wait until every line is written, at most so long; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout=seconds)

    def _start(self, descriptor: int) -> None:
        # A daemon: a write that never returns must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, args=(descriptor,), name=f"console {descriptor}", daemon=True
        )
        self._thread.start()
        atexit.register(self.drain, AT_EXIT_SECONDS)

    def _run(self, descriptor: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                line = self._waiting[0]
                dropped, self._dropped = self._dropped, 0
            with contextlib.suppress(OSError):  # nobody can be told: the line is lost
                if dropped:
                    _write_all(descriptor, f"({dropped} lines were left out here)\n".encode())
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
    """Return the descriptor unless Python found it closed: then the number may be another file."""
    return None if stream is None else number


output = Console(_descriptor_of(sys.__stdout__, 1))
"""Standard output: what a command prints as its result while processes of ours run."""

errors = Console(_descriptor_of(sys.__stderr__, 2))
"""Standard error: progress and problems."""


def say(line: str) -> None:
    """Tell a person one line, on standard error: output belongs to commands."""
    errors.write(f"carnet: {line}")


def say_and_log(file: Path) -> Callable[[str], None]:
    """Return a `say` that also appends each line, with its time, to a log file.

    What a closed terminal does not show can be read there. A log that cannot be written is no
    reason to stop either.
    """

    def both(line: str) -> None:
        say(line)
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            with open(file, "a", opener=_private) as log:
                log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")

    return both


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
