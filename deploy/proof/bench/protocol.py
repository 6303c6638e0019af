"""What a measurement is: named variants that are run in turn, round after round, and the aims.

To add one, write a module with a `Measurement` and name it in `catalogue.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from deploy.proof.bench.environment import BenchEnvironment

Figures = Mapping[str, float]
"""What one run found; a name ends in its unit: `per_second`, `p99_ms`, `cpu_us`, `memory_mb`."""

Run = Callable[[], Awaitable[Figures]]
"""One timed run of one variant, a few seconds long; whatever it needs stands ready."""


@dataclass(frozen=True)
class Aim:
    """A figure of one variant, or its ratio to a figure of another in the same round.

    `of` and `against` are written `variant.figure`. With `at_most` less is better.
    """

    what: str
    of: str
    solid: float
    ambitious: float
    against: str | None = None
    at_most: bool = False
    unit: str = ""

    def values(self, runs: Mapping[str, Mapping[str, list[float]]]) -> list[float]:
        """Return the figure or ratio of each round. Raises KeyError for one never measured."""
        found = _series(runs, self.of)
        if self.against is None:
            return found
        return [a / b for a, b in zip(found, _series(runs, self.against), strict=True)]


def _series(runs: Mapping[str, Mapping[str, list[float]]], name: str) -> list[float]:
    variant, _, figure = name.rpartition(".")
    return list(runs[variant][figure])


@dataclass(frozen=True)
class Measurement:
    """One question with its variants.

    `opened` makes everything ready and yields the runs by variant, in the order in which each
    round takes them; what it started has ended when it is closed. `note` says in a sentence how
    the figures came to be. What takes long is left out of `make bench` unless it is named.
    """

    name: str
    title: str
    note: str
    open_runs: Callable[[BenchEnvironment], AbstractAsyncContextManager[Mapping[str, Run]]]
    aims: tuple[Aim, ...] = ()
    by_default: bool = True
