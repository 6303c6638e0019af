"""What an operator reads after each step."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from deploy.upgrade.operator.preflight import PreflightResult
from deploy.upgrade.operator.report import show_groups
from deploy.upgrade.run.backup import Backup
from deploy.upgrade.run.user_queries import QueryAnswer
from deploy.upgrade.run.verification import Verdict

_SHOWN = 3
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_of(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} {_UNITS[-1]}"


def show_preflight(findings: PreflightResult, console: Console) -> None:
    """Print what a preflight found."""
    console.print(f"Version 1: {findings.source}, PostgreSQL {findings.server}")
    for table, extent in findings.extents.items():
        console.print(f"  {extent.rows:>14,}  {table} (ids up to {extent.last_id:,})")
    console.print(f"Stays administrator of the system: {findings.system_admin or 'nobody'}")
    if findings.found:
        show_groups("Will be changed or set aside", findings.found, console)
    minutes = findings.seconds / 60
    console.print(
        f"Estimate: {minutes:,.1f} minutes to copy, {size_of(findings.disk)} in the target,"
        f" {size_of(findings.size)} at most for the backup"
    )
    for warning in findings.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for problem in findings.problems:
        console.print(f"[red]in the way:[/red] {escape(problem)}")
    if not findings.problems:
        console.print("[green]Nothing is in the way.[/green]")


def show_backup(backup: Backup, console: Console) -> None:
    """Print where a backup is, and by what it is known again."""
    console.print(f"Backup: {backup.file}, {size_of(backup.size)} ({backup.size:,} bytes)")
    console.print(f"  SHA-256 {backup.sha256}")
    console.print(f"  read back: {backup.tables} tables, by the programs beside {backup.program}")


def show_structure(revisions: Mapping[str, str], console: Console) -> None:
    """Print at which revision each schema is."""
    console.print("Structure: " + ", ".join(f"{name} {rev}" for name, rev in revisions.items()))


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print every check, and the user's queries with their answers."""
    for check in verdict.checks:
        mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
        console.print(f"{mark} {check.name}: {escape(check.detail)}")
    if verdict.answers is None:
        console.print(
            "[yellow]The user's queries were not run: CARNET_REPORT_DATABASE_URL is not set.[/]"
        )
    for answer in verdict.answers or ():
        _show_answer(answer, console)
    if verdict.passed:
        console.print("[green]Everything is as it must be.[/green]")
    else:
        failed = [check.name for check in verdict.checks if not check.passed]
        console.print(f"[red]Not as it must be:[/red] {escape(', '.join(failed))}")


def _show_answer(answer: QueryAnswer, console: Console) -> None:
    console.print(f"\ncarnet=> {escape(answer.query)};")
    for row in answer.rows[:_SHOWN]:
        console.print("  " + escape(", ".join(f"{name} {value}" for name, value in row.items())))
    if len(answer.rows) > _SHOWN:
        console.print(f"  … {len(answer.rows)} rows")


def show_rollback(removed: Mapping[str, int], console: Console) -> None:
    """Print what was taken away."""
    rows = ", ".join(f"{count:,} {table}" for table, count in removed.items())
    console.print(f"Taken away: {rows}. Version 1 is as it was.")


def verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for machines."""
    answers: Sequence[QueryAnswer] = verdict.answers or ()
    return {
        "passed": verdict.passed,
        "checks": [vars(check) for check in verdict.checks],
        "queries": [{"query": answer.query, "rows": answer.rows} for answer in answers],
    }
