"""Limits how often batches begin, so that batches form under load."""

import time

BURST = 4
"""How many batches may begin without a pause after an idle time: one user's request often commits
several transactions within a few milliseconds."""


class Throttle:
    """Lets a batch begin every `interval` seconds on average, and up to `burst` at once.

    This is the generic cell rate algorithm (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
    """

    def __init__(self, interval: float, *, burst: int = BURST) -> None:
        self._interval = interval
        self._tolerance = (burst - 1) * interval
        self._expected_at = float("-inf")

    def pause(self) -> float:
        """Return the seconds until a batch may begin; not above zero if it may begin now."""
        return self._expected_at - self._tolerance - time.monotonic()

    def count(self) -> None:
        """Count a batch that begins now."""
        self._expected_at = max(self._expected_at, time.monotonic()) + self._interval
