"""The result of a run as a person reads it."""

from rich.console import Console
from rich.table import Table

from deploy.proof.chaos.points import all_points
from deploy.proof.chaos.run import DRAINED_SECONDS, RunResult


def show(result: RunResult, console: Console) -> None:
    """Print what was done, what failed, and what was found."""
    console.print(_done(result))
    console.print(_faults(result))
    console.print(f"{result.second_host[:1].upper()}{result.second_host[1:]}.", highlight=False)
    console.print(_findings(result))
    for finding in result.findings:
        for example in finding.examples:
            console.print(f"  {finding.check.name}: {example}", style="red", markup=False)
    _conclude(result, console)


def _done(result: RunResult) -> Table:
    table = Table(title="What clients did", title_justify="left")
    table.add_column("action")
    table.add_column("answered", justify="right")
    for kind, count in sorted(result.told.items()):
        if count:
            table.add_row(kind, str(count))
    table.add_row("changes recorded in all", str(result.events), style="bold")
    return table


def _faults(result: RunResult) -> Table:
    table = Table(title="What went wrong", title_justify="left")
    table.add_column("fault")
    table.add_column("times", justify="right")
    for kind, count in sorted(result.faults.items()):
        table.add_row(kind, str(count))
    for kind, count in sorted(result.missed.items()):
        table.add_row(f"{kind}: tried, and not possible just then", str(count))
    table.add_row("commits whose answer was cut off", str(result.commits_cut))
    table.add_row("processes killed in all", str(result.kills), style="bold")
    return table


def _findings(result: RunResult) -> Table:
    table = Table(title="What must not be", title_justify="left")
    table.add_column("of")
    table.add_column("finding")
    table.add_column("found", justify="right")
    for finding in result.findings:
        style = "bold red" if finding.wrong else ""
        table.add_row(finding.check.group, finding.check.name, str(finding.wrong), style=style)
    return table


def _conclude(result: RunResult, console: Console) -> None:
    points = all_points().keys()
    console.print(
        f"Fail points: {len(result.points_passed & points)} of {len(points)} passed,"
        f" {len(result.points_killed & points)} killed at."
    )
    console.print(
        f"Processes ready again after {result.ready_after:.1f} s; drained after"
        f" {_after(result.drained_after)} (at most {DRAINED_SECONDS:.0f} s), at rest after"
        f" {_after(result.at_rest_after)}."
    )
    verdict = "Everything as it should be" if result.in_order else "NOT as it should be"
    style = "bold" if result.in_order else "bold red"
    console.print(f"{verdict}. Again with: make chaos SEED={result.seed}", style=style)


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
