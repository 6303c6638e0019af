"""The command `carnet upgrade`: copies version 1's data into version 2, and rolls it back."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from rich.console import Console

from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.operator import pages, report
from deploy.upgrade.operator.addresses import Addresses
from deploy.upgrade.operator.preflight import PreflightResult, inspect
from deploy.upgrade.run.backup import Backup, back_up
from deploy.upgrade.run.data import upgrade_data
from deploy.upgrade.run.progress import progress_display
from deploy.upgrade.run.rollback import roll_back
from deploy.upgrade.run.structure import upgrade_structure
from deploy.upgrade.run.table_copy import CHUNK_ROWS
from deploy.upgrade.run.verification import verify
from deploy.upgrade.targets import Target

app = typer.Typer(help="Upgrade from version 1, which is only read.", no_args_is_help=True)
console = Console(highlight=False, soft_wrap=True)

Result = TypeVar("Result")

# The driver reports a connection that ends between two messages as an internal error:
# https://github.com/MagicStack/asyncpg/issues/784
_DATABASE_ERRORS = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
SourceOption = Annotated[
    str,
    typer.Option(
        "--source",
        envvar="CARNET_UPGRADE_SOURCE",
        show_envvar=True,
        help="Version 1's database, postgresql://user:password@host:5432/therapy_system. The user"
        " only needs to read.",
    ),
]
ChunkOption = Annotated[
    int,
    typer.Option(
        "--chunk-rows",
        min=1,
        help="Rows of one transaction; an interruption loses at most one chunk of each table.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AdminOption = Annotated[
    str | None,
    typer.Option(
        "--system-admin",
        metavar="EMAIL",
        help="The administrator of version 1 who stays administrator of the system; by default the"
        " one with the lowest id. The others become owners of the organization.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write every changed row into this file, as JSON lines."),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="The file of the dump; by default a new one.")
]
PgDumpOption = Annotated[
    Path | None, typer.Option("--pg-dump", help="A pg_dump that can read version 1's server.")
]


def _address(service: str) -> Any:
    return typer.Option(
        f"--target-{service}",
        envvar=f"{service.upper()}_DATABASE_URL",
        show_envvar=True,
        metavar="DSN",
        help=f"The database as {service}'s own role. The address of the schema's owner is "
        f"{service.upper()}_OWNER_DATABASE_URL.",
    )


@app.callback()
def upgrade(
    context: typer.Context,
    identity: Annotated[str | None, _address("identity")] = None,
    organizations: Annotated[str | None, _address("organizations")] = None,
    vouchers: Annotated[str | None, _address("vouchers")] = None,
    payments: Annotated[str | None, _address("payments")] = None,
    audit: Annotated[str | None, _address("audit")] = None,
) -> None:
    """Upgrade from version 1, which is only read.

    Without addresses the target is the system of the data folder (CARNET_DATA), running or not.
    """
    context.obj = Addresses(
        {
            "identity": identity,
            "organizations": organizations,
            "vouchers": vouchers,
            "payments": payments,
            "audit": audit,
        }
    )


@app.command()
def preflight(
    context: typer.Context,
    source: SourceOption,
    system_admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the upgrade would do: counts, changes, problems, disk and time. Only reads."""
    result = run(_preflight(context.obj, source, system_admin))
    _print(as_json, result.as_json(), lambda: pages.show_preflight(result, console))
    _exit_unless(not result.problems)


@app.command()
def backup(
    source: SourceOption,
    output: OutputOption = None,
    pg_dump: PgDumpOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dump version 1, read the dump back, and print its size and SHA-256."""
    dump = run(back_up(source, output or _dump_name(), pg_dump))
    _print(as_json, _backup_as_json(dump), lambda: pages.show_backup(dump, console))


@app.command()
def structure(context: typer.Context, as_json: JsonOption = False) -> None:
    """Bring every service's schema to its newest revision."""
    revisions = run(_with_target(context.obj, upgrade_structure))
    _print(as_json, revisions, lambda: pages.show_structure(revisions, console))


@app.command()
def data(
    context: typer.Context,
    source: SourceOption,
    system_admin: AdminOption = None,
    report_file: ReportOption = None,
    chunk_rows: ChunkOption = CHUNK_ROWS,
    as_json: JsonOption = False,
) -> None:
    """Copy and convert version 1's rows; continue where an earlier run stopped."""

    async def copy(target: Target) -> dict[str, Any]:
        display = progress_display(quiet=as_json)
        summary = await upgrade_data(target, source, system_admin, display, chunk_rows=chunk_rows)
        if report_file is not None:
            await report.write_report(target, report_file)
        return summary

    summary = run(_with_target(context.obj, copy))
    _print(as_json, summary, lambda: report.show(summary, console))


@app.command("verify")
def verify_(context: typer.Context, source: SourceOption, as_json: JsonOption = False) -> None:
    """Compare every row with version 1 and run the queries; exit code 1 if a check fails."""
    verdict = run(_with_target(context.obj, lambda target: verify(target, source)))
    _print(as_json, pages.verdict_as_json(verdict), lambda: pages.show_verdict(verdict, console))
    _exit_unless(verdict.passed)


@app.command()
def rollback(
    context: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Roll back even if users lose their work.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove this upgrade's rows from version 2. Version 1 never changed."""
    display = progress_display(quiet=as_json)
    counts = run(_with_target(context.obj, lambda target: roll_back(target, display, force=force)))
    _print(as_json, counts, lambda: pages.show_rollback(counts, console))


@app.command("run")
def run_all(
    context: typer.Context,
    source: SourceOption,
    system_admin: AdminOption = None,
    output: OutputOption = None,
    pg_dump: PgDumpOption = None,
    report_file: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run preflight, backup, structure, data and verify; stop at the first failure."""
    steps = _AllSteps(context.obj, source, system_admin, report_file, quiet=as_json)
    success = run(steps.run(output or _dump_name(), pg_dump))
    if as_json:
        print(json.dumps(steps.document, ensure_ascii=False, indent=2, default=str))
    _exit_unless(success)


class _AllSteps:
    """Runs all steps and prints each result, or collects them in `document` if quiet."""

    def __init__(
        self,
        addresses: Addresses,
        source: str,
        system_admin: str | None,
        report_file: Path | None,
        *,
        quiet: bool,
    ) -> None:
        self.document: dict[str, Any] = {}
        self._addresses = addresses
        self._source = source
        self._system_admin = system_admin
        self._report_file = report_file
        self._quiet = quiet

    async def run(self, dump_file: Path, pg_dump: Path | None) -> bool:
        """Return whether every step succeeded."""
        self._begin("1 of 5: preflight")
        preflight = await _preflight(self._addresses, self._source, self._system_admin)
        self._end(
            "preflight", preflight.as_json(), lambda: pages.show_preflight(preflight, console)
        )
        if preflight.problems:
            return False
        self._begin("2 of 5: backup")
        dump = await back_up(self._source, dump_file, pg_dump)
        self._end("backup", _backup_as_json(dump), lambda: pages.show_backup(dump, console))
        async with self._addresses.target() as target:
            return await self._fill(target)

    async def _fill(self, target: Target) -> bool:
        self._begin("3 of 5: structure")
        revisions = await upgrade_structure(target)
        self._end("structure", revisions, lambda: pages.show_structure(revisions, console))
        self._begin("4 of 5: data")
        display = progress_display(quiet=self._quiet)
        summary = await upgrade_data(target, self._source, self._system_admin, display)
        if self._report_file is not None:
            await report.write_report(target, self._report_file)
        self._end("data", summary, lambda: report.show(summary, console))
        self._begin("5 of 5: verify")
        verdict = await verify(target, self._source)
        document = pages.verdict_as_json(verdict)
        self._end("verify", document, lambda: pages.show_verdict(verdict, console))
        return verdict.passed

    def _begin(self, title: str) -> None:
        if not self._quiet:
            console.print(f"\n[bold]{title}[/bold]")

    def _end(self, step: str, document: Any, show: Callable[[], None]) -> None:
        self.document[step] = document
        if not self._quiet:
            show()


async def _preflight(
    addresses: Addresses, source: str, system_admin: str | None
) -> PreflightResult:
    return await inspect(source, await addresses.target_if_running(), system_admin)


async def _with_target(
    addresses: Addresses, work: Callable[[Target], Coroutine[Any, Any, Result]]
) -> Result:
    async with addresses.target() as target:
        return await work(target)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work. Raises UpgradeError if a database refuses a statement or cannot be reached."""
    try:
        return asyncio.run(work)
    except _DATABASE_ERRORS as error:
        raise UpgradeError(
            f"A database returned an error or disconnected: {error or type(error).__name__}",
            "No change is half done. Fix the cause and repeat the command.",
        ) from error


def _print(as_json: bool, document: Any, show: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(document, ensure_ascii=False, indent=2, default=str))
    else:
        show()


def _exit_unless(success: bool) -> None:
    if not success:
        raise typer.Exit(1)


def _dump_name() -> Path:
    return Path(f"carnet-v1-{time.strftime('%Y%m%dT%H%M%S')}.dump")


def _backup_as_json(dump: Backup) -> dict[str, Any]:
    return {**vars(dump), "file": str(dump.file)}
