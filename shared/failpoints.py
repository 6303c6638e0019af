"""Named points at which a test lets this process die, to show that nothing is lost there.

Outside such tests `failpoint` is an empty function. `FAILPOINT=name:n` sends this process SIGKILL
at its n-th pass of the point, and `FAILPOINTS_LOG` names the file that records it: `passed name` at
the first pass of each point, `killed name` before the process ends. Both variables are needed: one
alone does nothing but cause a warning. A process that is started again with the same variables
survives, because the file shows that the point has killed already.

Processes that run can be hit too: of all that share a log, the first to pass the point dies when
somebody makes the file `<log>.<name>`. It is gone then.
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
    """Do nothing: the points are off."""


class Points:
    """The points of a process whose environment asks for them."""

    def __init__(self, file: Path, target: str | None) -> None:
        self._file = file
        self._target = target
        self._passes: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Note the first pass; end this process if this is the pass that was asked for."""
        self._passes[name] += 1
        number = self._passes[name]
        if number == 1:
            self._write(f"passed {name}")
        chosen = self._target == f"{name}:{number}" and not self._has_killed(name)
        if chosen or self._is_ordered(name):
            self._write(f"killed {name}")
            os.kill(os.getpid(), signal.SIGKILL)

    def _has_killed(self, name: str) -> bool:
        return f"killed {name}" in self._file.read_text().splitlines()

    def _is_ordered(self, name: str) -> bool:
        try:
            order_for(self._file, name).unlink()  # by one process only
        except FileNotFoundError:
            return False
        return True

    def _write(self, line: str) -> None:
        """Append in one write: processes that share the file do not tear each other's lines."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)


def order_for(file: Path, name: str) -> Path:
    """Return the file whose existence kills the first process to pass a point."""
    return file.with_name(f"{file.name}.{name}")


def chosen(environment: Mapping[str, str]) -> Callable[[str], None]:
    """Return what a pass does in a process with this environment."""
    file, target = environment.get(LOG), environment.get(POINT)
    if not file:
        return nothing
    return Points(Path(file), target if target and _FORM.fullmatch(target) else None).reach


failpoint = chosen(os.environ)
"""Mark a point in the code: `failpoint("relay.claimed")`, with the name written out."""


def warn_if_set(environment: Mapping[str, str] = os.environ) -> None:
    """Log what the environment asks for, and whether it is heeded; called when a process starts."""
    target, file = environment.get(POINT), environment.get(LOG)
    if target and not file:
        log.warning("failpoint_ignored", failpoint=target, reason=f"{LOG} is not set")
    elif target and not _FORM.fullmatch(target):
        log.warning("failpoint_ignored", failpoint=target, reason="is not name:n")
    elif target or file:
        log.warning("failpoints_are_on", failpoint=target, log_file=file)
