"""Runs every variant once a round, so that other load of the machine affects all of them."""

from collections.abc import Callable
from datetime import UTC, datetime

from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.protocol import Measurement
from deploy.proof.bench.results import Outcome, Runs


async def measure(
    measurement: Measurement, environment: BenchEnvironment, rounds: int, say: Callable[[str], None]
) -> Outcome:
    """Return the outcome of `rounds` rounds of a measurement."""
    runs: Runs = {}
    async with measurement.open_runs(environment) as variants:
        for number in range(1, rounds + 1):
            for variant, run in variants.items():
                figures = await run()
                for figure, value in figures.items():
                    runs.setdefault(variant, {}).setdefault(figure, []).append(value)
                values = ", ".join(f"{figure} {value:,.4g}" for figure, value in figures.items())
                say(f"{measurement.name} {number}/{rounds} {variant}: {values}")
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    return Outcome(measurement.name, measurement.title, measurement.note, moment, runs)
