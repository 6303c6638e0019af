"""`carnet upgrade backup`: dumps version 1 and reads the dump back."""

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from deploy.local.errors import StartError
from deploy.local.postgres import programs_folder
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.source import TABLES, open_source

_DEBIAN_FOLDER = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Backup:
    """A dump that was read back."""

    file: Path
    size: int
    sha256: str
    tables: int
    program: str


async def back_up(dsn: str, file: Path, pg_dump: Path | None = None) -> Backup:
    """Dump version 1's schema in the custom format, and read the dump back to its end.

    Raises UpgradeError.
    """
    async with open_source(dsn) as source:
        version = source.version
    programs = await _find_programs(version, pg_dump)
    with _temporary_file(file) as temporary:
        await _run(
            [
                str(programs / "pg_dump"),
                "--format=custom",
                "--schema=public",
                f"--file={temporary}",
            ],
            _libpq_variables(dsn),
        )
        tables = await _read_back(programs, temporary)
        size, digest = await asyncio.to_thread(_measure, temporary)
        try:
            os.link(temporary, file)
        except FileExistsError:  # another backup created it in the meantime
            _require_absent(file)
    return Backup(file, size, digest, tables, str(programs / "pg_dump"))


@contextmanager
def _temporary_file(file: Path) -> Iterator[Path]:
    """Create a private file in the same folder, and delete it at the end.

    So the dump's name exists only once the dump is complete and was read back.
    """
    _require_absent(file)
    descriptor, name = tempfile.mkstemp(
        prefix=f"{file.name}.", suffix=".unfinished", dir=file.parent
    )
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _require_absent(file: Path) -> None:
    if file.exists():
        raise UpgradeError(f"{file} exists already.", "Choose another file with --output.")


async def _read_back(programs: Path, file: Path) -> int:
    """Read the dump as a restore would; return the number of tables with rows in it."""
    restore = str(programs / "pg_restore")
    await _run([restore, f"--file={os.devnull}", str(file)], {})
    listing = await _run([restore, "--list", str(file)], {})
    tables = set(re.findall(r" TABLE DATA public (\S+) ", listing))
    if missing := [table for table in TABLES if table not in tables]:
        raise UpgradeError(
            f"The dump {file} lacks {', '.join(missing)}.", "Back up as a user who may read them."
        )
    return len(tables)


def _measure(file: Path) -> tuple[int, str]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return file.stat().st_size, digest


async def _find_programs(server: int, pg_dump: Path | None) -> Path:
    """Return the folder of the oldest pg_dump that is at least as new as the server."""
    candidates = [pg_dump.parent] if pg_dump else list(dict.fromkeys(_program_folders()))
    fitting = []
    for folder in candidates:
        version = await _version(folder)
        if version is not None and version >= server:
            fitting.append((version, folder))
    if not fitting:
        raise UpgradeError(
            f"There is no pg_dump of PostgreSQL {server} or later on this machine.",
            "Install PostgreSQL's client programs, or set the path with --pg-dump.",
        )
    return min(fitting, key=lambda candidate: candidate[0])[1]


def _program_folders() -> Iterator[Path]:
    if program := shutil.which("pg_dump"):
        yield Path(program).parent
    yield from sorted(_DEBIAN_FOLDER.glob("*/bin"))
    try:
        yield programs_folder()
    except StartError:
        return


async def _version(folder: Path) -> int | None:
    if not ((folder / "pg_dump").exists() and (folder / "pg_restore").exists()):
        return None
    match = re.search(r"(\d+)", await _run([str(folder / "pg_dump"), "--version"], {}))
    return int(match[1]) if match else None


def _libpq_variables(dsn: str) -> Mapping[str, str]:
    """Return the address as libpq's variables: other users can see a process's arguments."""
    url = make_url(dsn)
    values = {
        "PGHOST": url.host,
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": url.query.get("sslmode") or url.query.get("ssl"),
    }
    return {name: str(value) for name, value in values.items() if value}


async def _run(command: list[str], environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, problems = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode != 0:
        last_line = problems.decode(errors="replace").strip().rpartition("\n")[2]
        last_line = last_line or f"it ended with code {process.returncode}"
        raise UpgradeError(
            f"{Path(command[0]).name} failed: {last_line}",
            "The user of --source must be able to read version 1's tables and sequences, and the"
            " disk of --output must have free space.",
        )
    return out.decode(errors="replace")
