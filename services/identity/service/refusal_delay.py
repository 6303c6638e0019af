"""When a refused sign-in is answered: at one of few moments, the same for every account.

A hash of version 1 takes longer than a new one, a known account some statements more than an
unknown one, and on a busy machine all of it takes longer still. So a refusal waits for the end of a
whole number of units, and of no fewer than any refusal of the last minute needed: otherwise the
slower kind would need one more, and tell by it.
"""

import asyncio
import math
import time
from collections.abc import Callable

MEMORY_SECONDS = 60.0  # seconds
MAX_UNITS = 6
"""Units that a slow refusal makes the others wait at most: no flood may slow them down at will."""


class RefusalDelay:
    """The pace of refusals in this process; `unit` is in seconds, zero for none."""

    def __init__(self, unit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self._units = 1
        self._noted_at = float("-inf")

    async def wait(self, started: float) -> None:
        """Wait until a refusal may be answered that began at an instant of the clock."""
        if self._unit > 0:
            elapsed = self._clock() - started
            await asyncio.sleep(self.units(elapsed) * self._unit - elapsed)

    def units(self, elapsed: float) -> int:
        """Return after how many units a refusal that took so long is answered."""
        now = self._clock()
        needed = max(1, math.ceil(elapsed / self._unit))
        if needed >= self._units or now - self._noted_at > MEMORY_SECONDS:
            self._units, self._noted_at = min(needed, MAX_UNITS), now
        return max(needed, self._units)
