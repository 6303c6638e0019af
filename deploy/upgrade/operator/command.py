"""`carnet upgrade …`: version 1's data becomes version 2's, and back again if need be."""

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
from deploy.upgrade.run.data import upgrade_data, write_report
from deploy.upgrade.run.progress import progress_display
from deploy.upgrade.run.rollback import roll_back
from deploy.upgrade.run.structure import upgrade_structure
from deploy.upgrade.run.table_copy import CHUNK_ROWS
from deploy.upgrade.run.verification import Verdict, verify
from deploy.upgrade.targets import Target

app = typer.Typer(help="Upgrade from version 1. Its tables are only read.", no_args_is_help=True)
console = Console(highlight=False, soft_wrap=True)

Result = TypeVar("Result")

# The driver calls a connection that ends between two messages an internal error:
# https://github.com/MagicStack/asyncpg/issues/784
_REFUSALS = (
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
        " need only be able to read.",
    ),
]
ChunkOption = Annotated[
    int,
    typer.Option(
        "--chunk-rows", min=1, help="Rows in one transaction: what an interruption costs at most."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AdminOption = Annotated[
    str | None,
    typer.Option(
        "--system-admin",
        metavar="EMAIL",
        help="The administrator of version 1 who stays administrator of the system; by default the"
        " one of lowest id. The others become owners of the organization.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write every changed row into this file, as JSON lines."),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Where the dump goes; made anew by default.")
]
PgDumpOption = Annotated[
    Path | None, typer.Option("--pg-dump", help="A pg_dump that fits version 1's server.")
]


def _address(service: str) -> Any:
    return typer.Option(
        f"--target-{service}",
        envvar=f"{service.upper()}_DATABASE_URL",
        show_envvar=True,
        metavar="DSN",
        help=f"The database as {service}'s own role. Its owner's: "
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
    """Upgrade from version 1, whose tables are only read.

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
    """Say what would happen: counts, collisions, changes, disk and time. Reads alone."""
    findings = run(_preflight(context.obj, source, system_admin))
    _tell(as_json, findings.as_json(), lambda: pages.show_preflight(findings, console))
    _exit_unless(not findings.problems)


@app.command()
def backup(
    source: SourceOption,
    output: OutputOption = None,
    pg_dump: PgDumpOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dump version 1, read the dump back, print its size and SHA-256."""
    made = run(back_up(source, output or _dump_name(), pg_dump))
    _tell(as_json, _of_backup(made), lambda: pages.show_backup(made, console))


@app.command()
def structure(context: typer.Context, as_json: JsonOption = False) -> None:
    """Bring every service's schema to its newest revision."""
    revisions = run(_structure(context.obj))
    _tell(as_json, revisions, lambda: pages.show_structure(revisions, console))


@app.command()
def data(
    context: typer.Context,
    source: SourceOption,
    system_admin: AdminOption = None,
    report_file: ReportOption = None,
    chunk_rows: ChunkOption = CHUNK_ROWS,
    as_json: JsonOption = False,
) -> None:
    """Copy and convert version 1's rows; go on where an earlier run stopped."""
    told = run(_data(context.obj, source, system_admin, report_file, chunk_rows, quiet=as_json))
    _tell(as_json, told, lambda: report.show(told, console))


@app.command("verify")
def verify_(context: typer.Context, source: SourceOption, as_json: JsonOption = False) -> None:
    """Compare every row with version 1's, and run the verification queries; 1 when one fails."""
    verdict = run(_verify(context.obj, source))
    _tell(as_json, pages.verdict_as_json(verdict), lambda: pages.show_verdict(verdict, console))
    _exit_unless(verdict.passed)


@app.command()
def rollback(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Even if users would lose work.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take this upgrade's rows out of version 2 again. Version 1 was never written to."""
    removed = run(_rollback(context.obj, force=force, quiet=as_json))
    _tell(as_json, removed, lambda: pages.show_rollback(removed, console))


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
    """Preflight, backup, structure, data, verify: all of it, stopping at the first failure."""
    result: dict[str, Any] = {}
    passed = run(
        _whole(
            context.obj,
            source,
            system_admin,
            dump=(output or _dump_name(), pg_dump),
            report_file=report_file,
            result=result,
            quiet=as_json,
        )
    )
    if as_json:
        print(json.dumps(result, ensure_ascii=False, indent=2, default=str))
    _exit_unless(passed)


async def _preflight(
    addresses: Addresses, source: str, system_admin: str | None
) -> PreflightResult:
    return await inspect(source, await addresses.target_if_there(), system_admin)


async def _structure(addresses: Addresses) -> dict[str, str]:
    async with addresses.target() as target:
        return await upgrade_structure(target)


async def _data(
    addresses: Addresses,
    source: str,
    system_admin: str | None,
    report_file: Path | None,
    chunk_rows: int,
    *,
    quiet: bool,
) -> dict[str, Any]:
    async with addresses.target() as target:
        told = await upgrade_data(
            target, source, system_admin, progress_display(quiet=quiet), chunk_rows=chunk_rows
        )
        if report_file is not None:
            await write_report(target, report_file)
        return told


async def _verify(addresses: Addresses, source: str) -> Verdict:
    async with addresses.target() as target:
        return await verify(target, source)


async def _rollback(addresses: Addresses, *, force: bool, quiet: bool) -> dict[str, int]:
    async with addresses.target() as target:
        return await roll_back(target, progress_display(quiet=quiet), force=force)


async def _whole(
    addresses: Addresses,
    source: str,
    system_admin: str | None,
    *,
    dump: tuple[Path, Path | None],
    report_file: Path | None,
    result: dict[str, Any],
    quiet: bool,
) -> bool:
    """Do every step and show each as it ends; fill `result`; return whether all of it is well."""
    _title(quiet, "1 of 5: preflight")
    findings = await _preflight(addresses, source, system_admin)
    result["preflight"] = findings.as_json()
    _show(quiet, lambda: pages.show_preflight(findings, console))
    if findings.problems:
        return False
    _title(quiet, "2 of 5: backup")
    made = await back_up(source, *dump)
    result["backup"] = _of_backup(made)
    _show(quiet, lambda: pages.show_backup(made, console))
    async with addresses.target() as target:
        return await _into(target, source, system_admin, report_file, result, quiet=quiet)


async def _into(
    target: Target,
    source: str,
    system_admin: str | None,
    report_file: Path | None,
    result: dict[str, Any],
    *,
    quiet: bool,
) -> bool:
    _title(quiet, "3 of 5: structure")
    revisions = result["structure"] = await upgrade_structure(target)
    _show(quiet, lambda: pages.show_structure(revisions, console))
    _title(quiet, "4 of 5: data")
    told = result["data"] = await upgrade_data(
        target, source, system_admin, progress_display(quiet=quiet)
    )
    if report_file is not None:
        await write_report(target, report_file)
    _show(quiet, lambda: report.show(told, console))
    _title(quiet, "5 of 5: verify")
    verdict = await verify(target, source)
    result["verify"] = pages.verdict_as_json(verdict)
    _show(quiet, lambda: pages.show_verdict(verdict, console))
    return verdict.passed


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work; a server's refusal becomes something that an operator can act on."""
    try:
        return asyncio.run(work)
    except _REFUSALS as error:
        raise UpgradeError(
            f"A database refused or went away: {error or type(error).__name__}",
            "Nothing is half done. Mend it, and give the same command again.",
        ) from error


def _tell(as_json: bool, document: Any, show: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(document, ensure_ascii=False, indent=2, default=str))
    else:
        show()


def _title(quiet: bool, title: str) -> None:
    if not quiet:
        console.print(f"\n[bold]{title}[/bold]")


def _show(quiet: bool, show: Callable[[], None]) -> None:
    if not quiet:
        show()


def _exit_unless(well: bool) -> None:
    if not well:
        raise typer.Exit(1)


def _dump_name() -> Path:
    return Path(f"carnet-v1-{time.strftime('%Y%m%dT%H%M%S')}.dump")


def _of_backup(made: Backup) -> dict[str, Any]:
    return {**vars(made), "file": str(made.file)}
