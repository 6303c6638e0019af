"""The core that a process runs on, and the CPU time that it used (Linux: sched(7), proc(5))."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StartError
from deploy.local.processes import LINUX


@dataclass(frozen=True)
class Cores:
    """The core of the process under test, and those of everything else."""

    tested: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """Reserve the last core for the process under test. Raises StartError if not on Linux."""
        if not LINUX:
            raise StartError(
                "make bench pins processes to cores and reads /proc.", "Run it on Linux."
            )
        allowed = sorted(os.sched_getaffinity(0))
        return cls(frozenset(allowed[-1:]), frozenset(allowed[:-1] or allowed))

    @property
    def all(self) -> frozenset[int]:
        """All cores that this process may use."""
        return self.tested | self.others


def pinned_to(cores: frozenset[int], then: Callable[[], None]) -> Callable[[], None]:
    """Return a function for a child before exec: it moves to these cores, then calls `then`."""

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        then()

    return prepare


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that these processes and their living descendants have used."""
    total = 0
    for pid in {*pids, *_descendants(pids)}:
        # schedstat counts nanoseconds; stat counts hundredths of a second.
        for schedule in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(schedule.read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int) -> float:
    """Return a process's resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _descendants(pids: Iterable[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    descendants: set[int] = set()
    queue = list(pids)
    while queue:
        new = children.get(queue.pop(), [])
        descendants.update(new)
        queue += new
    return descendants
