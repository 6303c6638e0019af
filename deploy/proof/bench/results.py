"""The results: one JSON file with the newest outcome of each measurement."""

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
    """The median, the lowest and the highest value of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one or more values."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Outcome:
    """All runs of one measurement, and the machine."""

    name: str
    title: str
    note: str
    measured_at: str
    runs: Runs
    machine: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AimResult:
    """An aim and the values that were measured."""

    measurement: str
    aim: Aim
    spread: Spread

    @property
    def verdict(self) -> str:
        """`ambitious`, `solid` or `missed`, by the median."""
        value = self.spread.median
        for name, limit in (("ambitious", self.aim.ambitious), ("solid", self.aim.solid)):
            if value <= limit if self.aim.at_most else value >= limit:
                return name
        return "missed"


def aim_results(measurement: Measurement, outcome: Outcome) -> list[AimResult]:
    """Return the results of a measurement's aims, without those of variants that did not run."""
    aims = []
    for aim in measurement.aims:
        names = [aim.of, *([aim.against] if aim.against else [])]
        if all(name.rpartition(".")[0] in outcome.runs for name in names):
            aims.append(AimResult(measurement.name, aim, Spread.of(aim.values(outcome.runs))))
    return aims


def read(file: Path) -> dict[str, Outcome]:
    """Return the outcomes of a results file by measurement; none if there is no file."""
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return {name: Outcome(**outcome) for name, outcome in document.items()}


def write(file: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Replace the content of a results file."""
    document = {name: asdict(outcomes[name]) for name in sorted(outcomes)}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".unfinished")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(file)
