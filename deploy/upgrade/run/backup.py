"""`carnet upgrade backup`: a dump of version 1, read back before anybody relies on it."""

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

_DEBIANS = Path("/usr/lib/postgresql")


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
    programs = await _programs(version, pg_dump)
    with _unfinished(file) as unfinished:
        await _run(
            [
                str(programs / "pg_dump"),
                "--format=custom",
                "--schema=public",
                f"--file={unfinished}",
            ],
            _connection(dsn),
        )
        tables = await _read_back(programs, unfinished)
        size, digest = await asyncio.to_thread(_measure, unfinished)
        _put_in_place(unfinished, file)
    return Backup(file, size, digest, tables, str(programs / "pg_dump"))


@contextmanager
def _unfinished(file: Path) -> Iterator[Path]:
    """Make a private file of our own beside the final place; none is left behind.

    A dump is there whole and read back, or not at all.
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


def _put_in_place(unfinished: Path, file: Path) -> None:
    """Give the dump its name, unless another backup was given that name meanwhile."""
    try:
        os.link(unfinished, file)
    except FileExistsError:
        _require_absent(file)


def _require_absent(file: Path) -> None:
    if file.exists():
        raise UpgradeError(f"{file} exists already.", "Name another file with --output.")


async def _read_back(programs: Path, file: Path) -> int:
    """Read every byte of the dump as a restore would; return how many tables' rows it holds."""
    restore = str(programs / "pg_restore")
    await _run([restore, f"--file={os.devnull}", str(file)], {})
    listing = await _run([restore, "--list", str(file)], {})
    held = set(re.findall(r" TABLE DATA public (\S+) ", listing))
    if missing := [table for table in TABLES if table not in held]:
        raise UpgradeError(
            f"The dump {file} lacks {', '.join(missing)}.", "Back up as a user who may read them."
        )
    return len(held)


def _measure(file: Path) -> tuple[int, str]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return file.stat().st_size, digest


async def _programs(server: int, pg_dump: Path | None) -> Path:
    """Return the folder of a pg_dump that is not older than the server: the nearest to it."""
    candidates = [pg_dump.parent] if pg_dump else list(dict.fromkeys(_folders()))
    fitting = []
    for folder in candidates:
        version = await _version(folder)
        if version is not None and version >= server:
            fitting.append((version, folder))
    if not fitting:
        raise UpgradeError(
            f"There is no pg_dump of PostgreSQL {server} or later here.",
            "Install PostgreSQL's client programs, or name one with --pg-dump.",
        )
    return min(fitting, key=lambda found: found[0])[1]


def _folders() -> Iterator[Path]:
    found = shutil.which("pg_dump")
    if found:
        yield Path(found).parent
    yield from sorted(_DEBIANS.glob("*/bin"))
    try:
        yield programs_folder()
    except StartError:
        return


async def _version(folder: Path) -> int | None:
    if not ((folder / "pg_dump").exists() and (folder / "pg_restore").exists()):
        return None
    told = re.search(r"(\d+)", await _run([str(folder / "pg_dump"), "--version"], {}))
    return int(told[1]) if told else None


def _connection(dsn: str) -> Mapping[str, str]:
    """Return the address as libpq's variables: a password in an argument is everybody's to see."""
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
        last = problems.decode(errors="replace").strip().rpartition("\n")[2]
        last = last or f"it ended with code {process.returncode}"
        raise UpgradeError(
            f"{Path(command[0]).name} failed: {last}",
            "The user of --source must be able to read version 1's tables and sequences, and there"
            " must be room where --output points.",
        )
    return out.decode(errors="replace")
