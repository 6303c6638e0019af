"""The start of the `carnet` command.

Its libraries take a second or two to import. Ctrl-C during the imports ends it as it does later,
without a traceback.
"""

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the `carnet` command."""

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(130)  # the exit code of a shell: 128 and the number of SIGINT

    previous = signal.signal(signal.SIGINT, end)
    from deploy.cli import app

    signal.signal(signal.SIGINT, previous)
    app()
