"""A limit of the calls to payment gateways: background work stays below their own limits."""

import asyncio
from time import monotonic


class CallLimiter:
    """Spreads calls evenly: at most `per_second` of them begin in any second of this process.

    Those who wait begin in the order in which they started to wait, so nobody is overtaken by
    somebody who calls more often.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next_start = 0.0

    async def wait(self) -> None:
        """Wait until the next call may begin."""
        moment = monotonic()
        start = max(moment, self._next_start)
        self._next_start = start + self._interval
        if start > moment:
            await asyncio.sleep(start - moment)
