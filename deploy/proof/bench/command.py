"""`carnet bench`: measure, and write what was measured into the documentation."""

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

app = typer.Typer(help="Measure how fast it is, beside the obvious alternatives.")


@app.command()
def run(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"What to measure, all if none: {NAMES}.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, envvar="ROUNDS", help="Runs of each variant; 3 if not set.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round of small sizes: does everything work?")
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
    """Measure, print the tables, and keep the figures in .carnet/bench/results.json.

    A measurement's outcome replaces its former one there; the others stay.
    """
    chosen = _chosen(names or [name for name, each in MEASUREMENTS.items() if each.by_default])
    scale = Scale.of(quick=quick, vouchers=vouchers, users=users)
    repeated = rounds or (1 if quick else 3)

    async def work(_: Interrupts) -> int:
        return await _measure_all(chosen, scale, repeated)

    exit_with(work)


@app.command("report")
def write(
    source: Annotated[Path, typer.Option("--from", help="The figures to tell.")] = RESULTS,
) -> None:
    """Write the figures into docs/performance.md, .json and .svg."""
    found = results.read(source)
    if not found:
        raise StartError(f"{source} holds no figures.", "Measure first: make bench")
    report.write(found, CHECKOUT / "docs")


async def _measure_all(chosen: list[Measurement], scale: Scale, rounds: int) -> int:
    known = results.read(RESULTS)
    described = machine.described()
    told = {"rounds": rounds, "quick": scale.quick}
    async with prepared_environment(FOLDER, scale, _say) as environment:
        for measurement in chosen:
            found = await measure(measurement, environment, rounds, _say)
            known[measurement.name] = replace(found, machine=described, scale=told)
            results.write(RESULTS, known)
            _show(measurement, known[measurement.name])
    return 0


def _show(measurement: Measurement, outcome: results.Outcome) -> None:
    table.show(measurement.title, table.RUNS_HEAD, table.run_rows(outcome))
    aims = results.aim_results(measurement, outcome)
    if aims:
        table.show("aims", table.AIMS_HEAD, table.aim_rows(aims))


def _chosen(names: list[str]) -> list[Measurement]:
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        raise StartError(f"There is no measurement '{unknown[0]}'.", f"There are: {NAMES}.")
    return [MEASUREMENTS[name] for name in names]


def _say(line: str) -> None:
    errors.write(f"bench: {line}")
