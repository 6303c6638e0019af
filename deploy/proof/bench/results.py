"""What was found: one JSON file that keeps the newest outcome of each measurement."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from deploy.proof.bench.protocol import Aim, Measurement

Runs = dict[str, dict[str, list[float]]]
"""Variant → figure → its value in each round."""


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Outcome:
    """Every run of one measurement, and the machine it ran on."""

    name: str
    title: str
    note: str
    measured_at: str
    runs: Runs
    machine: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AimResult:
    """An aim beside what was found."""

    measurement: str
    aim: Aim
    spread: Spread

    @property
    def verdict(self) -> str:
        """`ambitious`, `solid` or `missed`, by the median."""
        for name, bound in (("ambitious", self.aim.ambitious), ("solid", self.aim.solid)):
            value = self.spread.median
            if value <= bound if self.aim.at_most else value >= bound:
                return name
        return "missed"


def aim_results(measurement: Measurement, outcome: Outcome) -> list[AimResult]:
    """Return a measurement's aims with what was found; those of variants not run are left out."""
    found = []
    for aim in measurement.aims:
        names = [aim.of, *([aim.against] if aim.against else [])]
        if all(name.rpartition(".")[0] in outcome.runs for name in names):
            found.append(AimResult(measurement.name, aim, Spread.of(aim.values(outcome.runs))))
    return found


def read(file: Path) -> dict[str, Outcome]:
    """Return the outcomes of a results file by measurement; none when there is no file."""
    try:
        stored = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return {name: Outcome(**outcome) for name, outcome in stored.items()}


def write(file: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Replace a results file."""
    stored = {name: asdict(outcomes[name]) for name in sorted(outcomes)}
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(stored, indent=1) + "\n")
    unfinished.replace(file)
