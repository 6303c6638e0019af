"""A measurement: named variants, which run in turn in each round, and the aims.

To add one, write a module with a `Measurement` and list it in `catalogue.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from deploy.proof.bench.environment import BenchEnvironment

Figures = Mapping[str, float]
"""The figures of one run. Names end in the unit: `per_second`, `p99_ms`, `cpu_us`, `memory_mb`."""

Run = Callable[[], Awaitable[Figures]]
"""One timed run of one variant, a few seconds long. Its servers are started before."""


@dataclass(frozen=True)
class Aim:
    """A figure of one variant, or its ratio to a figure of another in the same round.

    `of` and `against` have the form `variant.figure`. With `at_most` less is better.
    """

    name: str
    of: str
    solid: float
    ambitious: float
    against: str | None = None
    at_most: bool = False
    unit: str = ""

    def values(self, runs: Mapping[str, Mapping[str, list[float]]]) -> list[float]:
        """Return the figure or ratio of each round. Raises KeyError if it was not measured."""
        values = _series(runs, self.of)
        if self.against is None:
            return values
        return [a / b for a, b in zip(values, _series(runs, self.against), strict=True)]


def _series(runs: Mapping[str, Mapping[str, list[float]]], name: str) -> list[float]:
    variant, _, figure = name.rpartition(".")
    return list(runs[variant][figure])


@dataclass(frozen=True)
class Measurement:
    """One question and its variants.

    `open_runs` prepares the measurement and yields the runs by variant, in the order of each round;
    its processes end when it is closed. `note` explains the figures in a sentence. A long
    measurement is not `by_default`: `make bench` runs it only by name.
    """

    name: str
    title: str
    note: str
    open_runs: Callable[[BenchEnvironment], AbstractAsyncContextManager[Mapping[str, Run]]]
    aims: tuple[Aim, ...] = ()
    by_default: bool = True
