"""Operating-system side of a child process: how it is born, found again and ended."""

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

# A child inherits this variable, and so do its own children: whoever carries it belongs to us.
MARK = "CARNET_STACK"

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, death_signal: signal.Signals) -> None:
    """Ask the kernel to send `death_signal` when `parent` ends, however it ends (Linux).

    Runs in the child before exec; after a change of user, which would clear the request (prctl(2)).
    """
    if not LINUX:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request was made
        os._exit(1)


def join(namespace: str) -> None:
    """Move into the namespace that a file of /proc/PID/ns stands for. Raises OSError (Linux)."""
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if _LIBC.setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), f"cannot join {namespace}")
    finally:
        os.close(descriptor)


def before_exec(
    death_signal: signal.Signals, become: Callable[[], None] | None = None
) -> Callable[[], None]:
    """Return what a new child does before exec: take another user if asked, die with us."""
    parent = os.getpid()

    def prepare() -> None:
        if become is not None:
            become()
        die_with_parent(parent, death_signal)

    return prepare


@dataclass(frozen=True)
class Identity:
    """A process beyond doubt: its id, and when it began (a later process may reuse the id)."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Return the identity of a running process, or None if there is none of that id."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    def is_running(self) -> bool:
        """Tell whether this very process still runs."""
        return _start_time(self.pid) == self.started


def _start_time(pid: int) -> str | None:
    if not LINUX:
        return "unknown" if _exists(pid) else None
    try:
        # Field 22 of /proc/pid/stat; the name in field 2 may hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def signal_group(pgid: int, number: signal.Signals) -> bool:
    """Signal every process of a group; tell whether there was one."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group that holds only zombies
        return False
    return True


def marked(folder: Path) -> Iterator[Identity]:
    """Find running processes that carry the mark of `folder`, ourselves and ancestors excepted."""
    wanted = f"{MARK}={folder}".encode()
    for entry in Path("/proc").glob("[0-9]*") if LINUX else ():
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found = Identity.of(int(entry.name))
                if found is not None and found.pid != os.getpid():
                    yield found


async def end(leftovers: Iterable[Identity], *, seconds: float = 10) -> None:
    """End processes that are not our children: SIGTERM, and SIGKILL after `seconds`."""
    alive = [process for process in leftovers if process.is_running()]
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal_each(alive, number)
        alive = await _still_running(alive, seconds)


async def _still_running(processes: list[Identity], seconds: float) -> list[Identity]:
    """Wait until all have ended or the time is over; return those that still run."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(process.is_running() for process in processes):
            break
        await asyncio.sleep(0.05)
    return [process for process in processes if process.is_running()]


def _signal_each(processes: Iterable[Identity], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)
