"""The delay of refused sign-ins: they are answered after a whole number of units of time.

A hash of version 1 takes longer than a new one, an account that exists needs some statements more
than one that does not, and on a busy machine all of it takes longer. So a refusal waits for the
end of a unit, and for at least as many units as any refusal of the last minute needed. Otherwise
the slower kind would need one more unit, which would reveal it.
"""

import asyncio
import math
import time
from collections.abc import Callable

MEMORY_SECONDS = 60.0
"""How long a slow refusal delays the others."""
MAX_UNITS = 6
"""How many units a slow refusal makes the others wait at most, so that no flood can delay them."""


class RefusalDelay:
    """The delay of refusals in this process. `unit` is in seconds; zero means no delay."""

    def __init__(self, unit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self._units = 1
        self._measured_at = float("-inf")

    async def wait(self, started_at: float) -> None:
        """Wait until the refusal of a request that started at a time of the clock may be sent."""
        if self._unit > 0:
            elapsed = self._clock() - started_at
            await asyncio.sleep(self.units(elapsed) * self._unit - elapsed)

    def units(self, elapsed: float) -> int:
        """Return after how many units a refusal is sent that took `elapsed` seconds."""
        now = self._clock()
        least_units = max(1, math.ceil(elapsed / self._unit))
        if least_units >= self._units or now - self._measured_at > MEMORY_SECONDS:
            self._units, self._measured_at = min(least_units, MAX_UNITS), now
        return max(least_units, self._units)
