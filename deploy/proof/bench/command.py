"""The command `carnet bench`: measures, and writes the figures into the documentation."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.console import errors
from deploy.local.errors import StartError
from deploy.local.interrupts import Interrupts, exit_with
from deploy.local.system import CHECKOUT
from deploy.proof.bench import machine, report, results, table
from deploy.proof.bench.catalogue import MEASUREMENTS
from deploy.proof.bench.environment import Scale, prepared_environment
from deploy.proof.bench.protocol import Measurement
from deploy.proof.bench.rounds import measure

FOLDER = CHECKOUT / ".carnet" / "bench"
RESULTS = FOLDER / "results.json"
NAMES = ", ".join(MEASUREMENTS)

app = typer.Typer(help="Measure the speed, compared with obvious alternatives.")


@app.command()
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"What to measure; by default everything of: {NAMES}."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, envvar="ROUNDS", help="Runs of each variant; 3 if not set.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="One round of small sizes, to check that everything works."),
    ] = False,
    vouchers: Annotated[
        int | None,
        typer.Option(min=1000, help="Size of the large database; 1,000,000 if not set."),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(min=1000, help="Size of version 1's database; 200,000 if not set."),
    ] = None,
) -> None:
    """Measure, print the tables, and store the figures in .carnet/bench/results.json.

    The outcome of a measurement replaces its previous one in that file; the others stay.
    """
    names = names or [name for name, each in MEASUREMENTS.items() if each.by_default]
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        raise StartError(f"There is no measurement '{unknown[0]}'.", f"Choose one of: {NAMES}.")
    measurements = [MEASUREMENTS[name] for name in names]
    scale = Scale.of(quick=quick, vouchers=vouchers, users=users)

    async def work(_: Interrupts) -> int:
        await _measure_all(measurements, scale, rounds or (1 if quick else 3))
        return 0

    exit_with(work)


@app.command("report")
def write(
    source: Annotated[Path, typer.Option("--from", help="The file of the figures.")] = RESULTS,
) -> None:
    """Write the figures into docs/performance.md, .json and .svg."""
    outcomes = results.read(source)
    if not outcomes:
        raise StartError(f"{source} contains no figures.", "Measure first: make bench")
    report.write(outcomes, CHECKOUT / "docs")


async def _measure_all(measurements: list[Measurement], scale: Scale, rounds: int) -> None:
    outcomes = results.read(RESULTS)
    description = machine.describe()
    sizes = {"rounds": rounds, "quick": scale.quick}
    async with prepared_environment(FOLDER, scale, _say) as environment:
        for measurement in measurements:
            outcome = await measure(measurement, environment, rounds, _say)
            outcome = replace(outcome, machine=description, scale=sizes)
            outcomes[measurement.name] = outcome
            results.write(RESULTS, outcomes)
            table.show(measurement.title, table.RUNS_HEAD, table.run_rows(outcome))
            if aims := results.aim_results(measurement, outcome):
                table.show("aims", table.AIMS_HEAD, table.aim_rows(aims))


def _say(line: str) -> None:
    errors.write(f"bench: {line}")
