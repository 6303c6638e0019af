"""The operating system's side of a process: how it is started, identified, signalled and ended."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LINUX = sys.platform == "linux"

# Children inherit this variable from their parents: a process that has it belongs to the stack.
MARK = "CARNET_STACK"

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, death_signal: signal.Signals) -> None:
    """Have the kernel send `death_signal` to this process when `parent` ends (Linux only).

    Call it in the child, before exec and after a change of user, which clears it (prctl(2)).
    """
    if not LINUX:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)


def join(namespace: str) -> None:
    """Move this process into the namespace of a file in /proc/PID/ns (Linux). Raises OSError."""
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if _LIBC.setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), f"cannot join {namespace}")
    finally:
        os.close(descriptor)


def before_exec(
    death_signal: signal.Signals, become: Callable[[], None] | None = None
) -> Callable[[], None]:
    """Return what a new child does before exec: change the user with `become`, end with us."""
    parent = os.getpid()

    def prepare() -> None:
        if become is not None:
            become()
        die_with_parent(parent, death_signal)

    return prepare


@dataclass(frozen=True)
class Identity:
    """One process for certain: its id and its start time, because ids are reused."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Return the identity of a running process, or None if no process has this id."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    def is_running(self) -> bool:
        """Return whether this process still runs."""
        return _start_time(self.pid) == self.started


def _start_time(pid: int) -> str | None:
    if not LINUX:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:  # it exists and belongs to another user
            pass
        return "unknown"
    try:
        # Field 22 of /proc/pid/stat; the name in field 2 may hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def arguments_of(pid: int) -> list[bytes]:
    """Return the command line of a process; it is empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def signal_group(pgid: int, number: signal.Signals) -> bool:
    """Send a signal to every process of a group; return whether the group exists."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS reports this for a group that has only zombies
        return False
    return True


def marked(folder: Path) -> Iterator[Identity]:
    """Yield the running processes that carry the mark of `folder`, except this one (Linux)."""
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").glob("[0-9]*") if LINUX else ():
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                process = Identity.of(int(entry.name))
                if process is not None and process.pid != os.getpid():
                    yield process


async def end(leftovers: Iterable[Identity], *, seconds: float = 10) -> None:
    """End processes that are not our children: SIGTERM, and SIGKILL after `seconds`."""
    alive = [process for process in leftovers if process.is_running()]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
        deadline = time.monotonic() + seconds
        while alive and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            alive = [process for process in alive if process.is_running()]
