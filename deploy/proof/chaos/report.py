"""Prints the result of a run."""

from rich.console import Console
from rich.table import Table

from deploy.proof.chaos.points import all_points
from deploy.proof.chaos.run import DRAINED_SECONDS, RunResult


def show(result: RunResult, console: Console) -> None:
    """Print the actions, the faults and the findings."""
    console.print(_actions(result))
    console.print(_faults(result))
    console.print(f"{result.second_host[:1].upper()}{result.second_host[1:]}.", highlight=False)
    console.print(_findings(result))
    for finding in result.findings:
        for example in finding.examples:
            console.print(f"  {finding.check.name}: {example}", style="red", markup=False)
    _show_summary(result, console)


def _actions(result: RunResult) -> Table:
    table = Table(title="Actions of clients", title_justify="left")
    table.add_column("action")
    table.add_column("answered", justify="right")
    for kind, count in sorted(result.answer_counts.items()):
        if count:
            table.add_row(kind, str(count))
    table.add_row("changes recorded in total", str(result.events), style="bold")
    return table


def _faults(result: RunResult) -> Table:
    table = Table(title="Faults", title_justify="left")
    table.add_column("fault")
    table.add_column("times", justify="right")
    for kind, count in sorted(result.faults.items()):
        table.add_row(kind, str(count))
    for kind, count in sorted(result.missed.items()):
        table.add_row(f"{kind}: attempts that were not possible", str(count))
    table.add_row("commits whose answer was cut off", str(result.commits_cut))
    table.add_row("processes killed in total", str(result.kills), style="bold")
    return table


def _findings(result: RunResult) -> Table:
    table = Table(title="Violations", title_justify="left")
    table.add_column("group")
    table.add_column("check")
    table.add_column("found", justify="right")
    for finding in result.findings:
        style = "bold red" if finding.violations else ""
        table.add_row(finding.check.group, finding.check.name, str(finding.violations), style=style)
    return table


def _show_summary(result: RunResult, console: Console) -> None:
    points = all_points().keys()
    console.print(
        f"Fail points: {len(result.points_passed & points)} of {len(points)} passed,"
        f" {len(result.points_killed & points)} killed at."
    )
    console.print(
        f"Processes ready again after {result.ready_after:.1f} s; drained after"
        f" {_seconds(result.drained_after)} (at most {DRAINED_SECONDS:.0f} s), at rest after"
        f" {_seconds(result.at_rest_after)}."
    )
    verdict = "All checks passed" if result.in_order else "FAILED"
    style = "bold" if result.in_order else "bold red"
    console.print(f"{verdict}. Repeat with: make chaos SEED={result.seed}", style=style)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
