"""When what goes wrong: sequences side by side, given by the seed."""

import asyncio
import random
import time
from collections.abc import Collection

from deploy.proof.chaos.faults import Faults
from deploy.proof.chaos.platform import Platform
from deploy.proof.chaos.points import all_points
from deploy.proof.chaos.users import Users
from shared.failpoints import order_for

LANES = 3
EXTENSION_SECONDS = 180.0
"""On a slow machine a process that was killed takes its time to be back for the next point."""
BETWEEN_POINTS = (0.2, 1.0)
BETWEEN_FAULTS = (0.3, 1.5)
BETWEEN_POINTS_LATER = (10.0, 24.0)
BETWEEN_FAULTS_LATER = (1.0, 5.0)
"""Once everything has failed: else nobody would be alive for long enough to do anything."""
SLOW_POINTS = frozenset({"founding.settling"})
"""Passed only a minute after a crash: ordered once, and not waited for."""


class Injector:
    """Faults of every kind once, and then at random; fail points likewise, beside them."""

    def __init__(self, platform: Platform, users: Users, seed: int) -> None:
        self._seed = seed
        self._platform = platform
        self.faults = Faults(platform, users.traffic, self._dice("lengths"))
        self._alive_at: list[str] = []
        self._pauses = BETWEEN_POINTS

    def _dice(self, word: str) -> random.Random:
        return random.Random(f"{self._seed}/{word}")  # noqa: S311 - to be replayed

    async def run(self, seconds: float, *, required: Collection[str] = ()) -> None:
        """Make things fail for so long; a fault under way is waited for.

        Points that are `required` come first, and are gone on with for longer if need be.
        """
        for point in SLOW_POINTS:
            order_for(self._platform.points, point).touch()
        until = time.monotonic() + seconds
        self._alive_at = self._points_in_order(required)
        try:
            await asyncio.gather(
                self._infrastructure(until),
                *(self._points(lane, until, required) for lane in range(LANES)),
            )
        finally:
            for point in SLOW_POINTS:
                order_for(self._platform.points, point).unlink(missing_ok=True)

    def _points_in_order(self, required: Collection[str]) -> list[str]:
        """Return the fail points in the order in which they are taken from the end."""
        dice = self._dice("points")
        names = sorted(all_points().keys() - SLOW_POINTS)
        return self._by_urgency(dice.sample(names, len(names)), required)

    def _by_urgency(self, names: Collection[str], required: Collection[str]) -> list[str]:
        """Sort required points to the end, and last of all those at which nobody died yet.

        Else a rare one that was missed in the first round would wait for all others again.
        """
        killed = self._platform.killed_points()
        return sorted(names, key=lambda name: (name in required, name not in killed))

    async def _infrastructure(self, until: float) -> None:
        dice = self._dice("faults")
        kinds = self.faults.kinds()
        names, weights = list(kinds), [weight for _, weight in kinds.values()]
        coming = dice.sample(names, len(names))
        while time.monotonic() < until:
            pauses = BETWEEN_FAULTS if coming else BETWEEN_FAULTS_LATER
            kind = coming.pop() if coming else dice.choices(names, weights)[0]
            await self.faults.bring_about(kind)
            await asyncio.sleep(dice.uniform(*pauses))

    async def _points(self, lane: int, until: float, required: Collection[str]) -> None:
        """Kill at every point, those first at which nobody died yet."""
        dice = self._dice(f"pauses/{lane}")
        while time.monotonic() < until + self._extension(required):
            if not self._alive_at:
                self._alive_at, self._pauses = self._points_in_order(required), BETWEEN_POINTS_LATER
            point = self._alive_at.pop()
            if not await self.faults.kill_at(point):
                self._alive_at = self._by_urgency([point, *self._alive_at], required)
            await asyncio.sleep(dice.uniform(*self._pauses))

    def _extension(self, required: Collection[str]) -> float:
        """Return for how long the required points are still tried after the end."""
        return EXTENSION_SECONDS if set(required) - self._platform.killed_points() else 0.0
