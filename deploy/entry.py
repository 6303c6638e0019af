"""The start of the `carnet` command.

Its libraries take a second or two to import. Ctrl-C in that time ends it as it does later, without
a traceback from the middle of an import.
"""

import signal
import sys
from types import FrameType


def main() -> None:
    """Be the `carnet` command."""
    previous = signal.signal(signal.SIGINT, _end)
    from deploy.cli import app

    signal.signal(signal.SIGINT, previous)
    app()


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(130)  # of a shell: 128 and the number of SIGINT
