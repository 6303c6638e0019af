"""Named points in the code at which a test kills this process, to prove that nothing is lost.

Outside of such tests `failpoint` is an empty function. `FAILPOINT=name:n` sends SIGKILL to this
process when it passes the point for the n-th time. `FAILPOINTS_LOG` names the file that records
`passed name` at the first pass of each point and `killed name` before the process ends. Both
variables are needed: one alone only causes a warning. A process that is started again with the same
variables survives, because the file records that the point has killed already.

A running process can be killed too: when a test creates the file `<log>.<name>`, the first process
with this log that passes the point deletes the file and dies.
"""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

POINT = "FAILPOINT"
LOG = "FAILPOINTS_LOG"
_FORM = re.compile(r"([a-z_]+\.[a-z_]+):([1-9][0-9]{0,5})")


def nothing(name: str) -> None:
    """Do nothing: no variable is set."""


class Points:
    """The fail points of a process whose environment sets the variables."""

    def __init__(self, file: Path, target: str | None) -> None:
        self._file = file
        self._target = target
        self._passes: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Record the first pass. Kill this process if it is the pass that a test has selected."""
        self._passes[name] += 1
        number = self._passes[name]
        if number == 1:
            self._write(f"passed {name}")
        is_target = self._target == f"{name}:{number}"
        if is_target and f"killed {name}" in self._file.read_text().splitlines():
            is_target = False
        if is_target or self.take_order(name):
            self._write(f"killed {name}")
            os.kill(os.getpid(), signal.SIGKILL)

    def take_order(self, name: str) -> bool:
        """Delete the file that orders a kill; return whether it existed. One process succeeds."""
        try:
            order_for(self._file, name).unlink()
        except FileNotFoundError:
            return False
        return True

    def _write(self, line: str) -> None:
        """Append with one write, so that lines of processes that share the file are not mixed."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)


def order_for(file: Path, name: str) -> Path:
    """Return the file whose existence kills the first process that passes a point."""
    return file.with_name(f"{file.name}.{name}")


def failpoint_of(environment: Mapping[str, str]) -> Callable[[str], None]:
    """Return the function to call at each point in a process with this environment."""
    file, target = environment.get(LOG), environment.get(POINT)
    if not file:
        return nothing
    return Points(Path(file), target if target and _FORM.fullmatch(target) else None).reach


failpoint = failpoint_of(os.environ)
"""Mark a point in the code: `failpoint("relay.claimed")`, with the name written out."""


def warn_if_set() -> None:
    """Log which variables are set and whether they have an effect. Called when a process starts."""
    target, file = os.environ.get(POINT), os.environ.get(LOG)
    if target and not file:
        log.warning("failpoint_ignored", failpoint=target, reason=f"{LOG} is not set")
    elif target and not _FORM.fullmatch(target):
        log.warning("failpoint_ignored", failpoint=target, reason="is not name:n")
    elif target or file:
        log.warning("failpoints_are_on", failpoint=target, log_file=file)
