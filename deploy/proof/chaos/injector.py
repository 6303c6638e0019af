"""The schedule of the faults: parallel sequences, which the seed determines."""

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
"""The additional time for required points: on a slow machine killed processes restart slowly."""
BETWEEN_POINTS = (0.2, 1.0)
BETWEEN_FAULTS = (0.3, 1.5)
BETWEEN_POINTS_LATER = (10.0, 24.0)
BETWEEN_FAULTS_LATER = (1.0, 5.0)
"""The pauses after every fault occurred once. With shorter ones the system would do no work."""
UNUSED_STEPS = frozenset({"account", "mail", "saved_card"})
"""The first words of points that no user of a run passes."""
SLOW_POINTS = frozenset({"founding.settling"}) | {
    point for point in all_points() if point.partition(".")[0] in UNUSED_STEPS
}
"""Points that are passed only a minute after a crash, or not at all. They are ordered once, without
waiting."""


class Injector:
    """Causes each kind of fault once and then random ones; the same for fail points in parallel."""

    def __init__(self, platform: Platform, users: Users, seed: int) -> None:
        self._seed = seed
        self._platform = platform
        self.faults = Faults(platform, users.traffic, self._dice("lengths"))
        self._remaining: list[str] = []
        self._pauses = BETWEEN_POINTS

    def _dice(self, word: str) -> random.Random:
        return random.Random(f"{self._seed}/{word}")  # noqa: S311 - to be replayed

    async def run(self, seconds: float, *, required: Collection[str] = ()) -> None:
        """Cause faults for some seconds, and wait until the last one is over.

        Points in `required` are first, and are tried longer if necessary.
        """
        for point in SLOW_POINTS:
            order_for(self._platform.points, point).touch()
        until = time.monotonic() + seconds
        self._remaining = self._points_in_order(required)
        try:
            await asyncio.gather(
                self.cause_faults(until),
                *(self.kill_at_points(lane, until, required) for lane in range(LANES)),
            )
        finally:
            for point in SLOW_POINTS:
                order_for(self._platform.points, point).unlink(missing_ok=True)

    def _points_in_order(self, required: Collection[str]) -> list[str]:
        """Return the fail points in reverse order: the last one is next."""
        dice = self._dice("points")
        names = sorted(all_points().keys() - SLOW_POINTS)
        return self._by_urgency(dice.sample(names, len(names)), required)

    def _by_urgency(self, names: Collection[str], required: Collection[str]) -> list[str]:
        """Sort required points to the end, and among them those without a kill so far last.

        Otherwise a rare point that was missed in the first round would wait for all others.
        """
        points = self._platform.killed_points()
        return sorted(names, key=lambda name: (name in required, name not in points))

    async def cause_faults(self, until: float) -> None:
        dice = self._dice("faults")
        kinds = self.faults.kinds()
        names, weights = list(kinds), [weight for _, weight in kinds.values()]
        first_round = dice.sample(names, len(names))
        while time.monotonic() < until:
            pauses = BETWEEN_FAULTS if first_round else BETWEEN_FAULTS_LATER
            kind = first_round.pop() if first_round else dice.choices(names, weights)[0]
            await self.faults.cause(kind)
            await asyncio.sleep(dice.uniform(*pauses))

    async def kill_at_points(self, lane: int, until: float, required: Collection[str]) -> None:
        """Kill a process at every point, first at points without a kill so far."""
        dice = self._dice(f"pauses/{lane}")

        def extension() -> float:
            return EXTENSION_SECONDS if set(required) - self._platform.killed_points() else 0.0

        while time.monotonic() < until + extension():
            if not self._remaining:
                self._remaining, self._pauses = (
                    self._points_in_order(required),
                    BETWEEN_POINTS_LATER,
                )
            point = self._remaining.pop()
            if not await self.faults.kill_at(point):
                self._remaining = self._by_urgency([point, *self._remaining], required)
            await asyncio.sleep(dice.uniform(*self._pauses))
