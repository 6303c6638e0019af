"""The text that an operator reads after each step."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from deploy.upgrade.operator.preflight import PreflightResult
from deploy.upgrade.operator.report import show_groups
from deploy.upgrade.run.backup import Backup
from deploy.upgrade.run.user_queries import QueryAnswer
from deploy.upgrade.run.verification import Verdict

_ROWS_SHOWN = 3
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_of(count: float) -> str:
    """Return a number of bytes in a readable unit."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} {_UNITS[-1]}"


def show_preflight(result: PreflightResult, console: Console) -> None:
    """Print the result of a preflight."""
    console.print(f"Version 1: {result.source}, PostgreSQL {result.server}")
    for table, extent in result.extents.items():
        console.print(f"  {extent.rows:>14,}  {table} (ids up to {extent.last_id:,})")
    console.print(f"Administrator of the system: {result.system_admin or 'none'}")
    if result.groups:
        show_groups("Will be changed or set aside", result.groups, console)
    minutes = result.seconds / 60
    console.print(
        f"Estimate: {minutes:,.1f} minutes to copy, {size_of(result.disk)} of disk in the target,"
        f" at most {size_of(result.size)} for the backup"
    )
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for problem in result.problems:
        console.print(f"[red]problem:[/red] {escape(problem)}")
    if not result.problems:
        console.print("[green]The preflight found no problem.[/green]")


def show_backup(backup: Backup, console: Console) -> None:
    """Print the file of a backup, its size and its checksum."""
    console.print(f"Backup: {backup.file}, {size_of(backup.size)} ({backup.size:,} bytes)")
    console.print(f"  SHA-256 {backup.sha256}")
    console.print(f"  read back: {backup.tables} tables, with the programs beside {backup.program}")


def show_structure(revisions: Mapping[str, str], console: Console) -> None:
    """Print the revision of each schema."""
    console.print("Structure: " + ", ".join(f"{name} {rev}" for name, rev in revisions.items()))


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print every check, and the verification queries with their results."""
    for check in verdict.checks:
        mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
        console.print(f"{mark} {check.name}: {escape(check.detail)}")
    if verdict.answers is None:
        console.print(
            "[yellow]The verification queries were not run:"
            " CARNET_REPORT_DATABASE_URL is not set.[/]"
        )
    for answer in verdict.answers or ():
        console.print(f"\ncarnet=> {escape(answer.query)};")
        for row in answer.rows[:_ROWS_SHOWN]:
            values = ", ".join(f"{name} {value}" for name, value in row.items())
            console.print(f"  {escape(values)}")
        if len(answer.rows) > _ROWS_SHOWN:
            console.print(f"  … {len(answer.rows)} rows")
    if verdict.passed:
        console.print("[green]All checks passed.[/green]")
    else:
        failures = [check.name for check in verdict.checks if not check.passed]
        console.print(f"[red]Failed:[/red] {escape(', '.join(failures))}")


def show_rollback(counts: Mapping[str, int], console: Console) -> None:
    """Print how many rows were removed from each table."""
    rows = ", ".join(f"{count:,} {table}" for table, count in counts.items())
    console.print(f"Removed: {rows}. Version 1 is unchanged.")


def verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as a JSON document."""
    answers: Sequence[QueryAnswer] = verdict.answers or ()
    return {
        "passed": verdict.passed,
        "checks": [vars(check) for check in verdict.checks],
        "queries": [{"query": answer.query, "rows": answer.rows} for answer in answers],
    }
