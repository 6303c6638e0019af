"""`python -m deploy.bench.upgrade`: `carnet upgrade data` against `pg_dump | psql`.

Both copy the same version 1 database inside one PostgreSQL of their own, which syncs to the disk
as a production server does; their runs alternate, and medians are compared. pg_dump copies
version 1's rows and nothing more: the upgrade also converts them, writes the ledger and the
copies, and builds version 2's keys.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from deploy.local.ports import Ports
from deploy.local.postgres import programs_folder
from deploy.local.secret_store import SecretStore
from deploy.local.servers import locked, postgres_of
from deploy.local.supervisor import Supervisor
from deploy.local.system import CHECKOUT
from deploy.tests.upgrade.databases import (
    VersionOne,
    administering,
    copy_template,
    drop,
    make_template,
    make_version_one,
    unique,
    upgraded,
)
from deploy.upgrade.source import TABLES
from shared.provisioning import in_database

FOLDER = CHECKOUT / ".carnet" / "bench-upgrade"
USERS = 150_000
RUNS = 3

# Per user two vouchers of ten codes, one session in three spent, one session of a class and half a
# reservation.
_ROWS = (
    """
    INSERT INTO users (email, name, password_hash, role, created_at)
    SELECT 'user' || n || '@example.org', 'Person number ' || n,
           '$2b$12$Wk5ZcSOjx8WMj82oXPu2WeDWSY58EKzfsCqyGtujizJa1/XVKys.q',
           CASE WHEN n = 1 THEN 'admin' WHEN n % 50 = 0 THEN 'therapist' ELSE 'client' END,
           timestamp '2023-01-01' + n * interval '1 minute' FROM generate_series(1, {users}) n
    """,
    """
    INSERT INTO therapy_classes (name, duration_minutes, capacity, therapist_id)
    SELECT 'Class ' || n, 60, 1 + n % 2 * 7, 50 FROM generate_series(1, 100) n
    """,
    """
    INSERT INTO vouchers (client_id, therapy_class_id, purchase_date, valid_until, total_sessions,
                          used_sessions)
    SELECT 1 + n % {users}, 1 + n % 100, date '2024-01-01' + n % 700,
           date '2024-06-01' + n % 1400, 8 + n % 3, n % 7 FROM generate_series(1, 2 * {users}) n
    """,
    """
    INSERT INTO voucher_codes (voucher_id, code, is_spare, is_used, used_date)
    SELECT v.id, 'VK-' || v.id || '-' || k, k > 8, k <= v.used_sessions,
           CASE WHEN k <= v.used_sessions THEN timestamp '2024-02-01' + k * interval '7 days' END
    FROM vouchers v, generate_series(1, 10) k
    """,
    """
    INSERT INTO sessions (therapy_class_id, session_date, notes)
    SELECT 1 + n % 100, timestamp '2024-01-01' + n * interval '1 hour', 'A note of some words ' || n
    FROM generate_series(1, {users}) n
    """,
    """
    INSERT INTO reservations (client_id, therapy_class_id, session_date, voucher_code_id, status)
    SELECT 1 + n, 1 + n % 100, timestamp '2024-01-01' + n * interval '1 hour', n, 'confirmed'
    FROM generate_series(1, {users} / 2) n
    """,
)


@dataclass(frozen=True)
class Result:
    """Seconds of each run, and how many rows version 1 had."""

    rows: int
    pg_dump_seconds: tuple[float, ...]
    upgrade_seconds: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The upgrade's rate by pg_dump's: 1 is as fast, 0.5 takes twice as long."""
        return median(self.pg_dump_seconds) / median(self.upgrade_seconds)

    def as_json(self) -> dict[str, object]:
        """Return everything, for machines."""
        return {**asdict(self), "ratio": round(self.ratio, 3)}


async def measure(users: int = USERS, runs: int = RUNS, folder: Path = FOLDER) -> Result:
    """Copy a database of so many users both ways, in turn, and return how long each copy took.

    Raises StartError when PostgreSQL cannot be started.
    """
    async with _postgres(folder) as admin_url:
        v1 = await make_version_one(admin_url, "schema.sql")
        template = await make_template(admin_url)
        try:
            await v1.execute(*(text.format(users=users) for text in _ROWS), "VACUUM ANALYZE")
            counts = [
                await v1.rows(f"SELECT count(*) AS n FROM {table}")  # noqa: S608
                for table in TABLES
            ]
            seconds = [
                (await _dump_and_restore(admin_url, v1), await _upgrade(admin_url, template, v1))
                for _ in range(runs)
            ]
        finally:
            for name in (v1.name, template):
                await drop(admin_url, name)
    dumped, carried = zip(*seconds, strict=True)
    return Result(sum(count["n"] for [count] in counts), dumped, carried)


@asynccontextmanager
async def _postgres(folder: Path) -> AsyncIterator[str]:
    """Run a PostgreSQL that is as safe as `make run`'s; yield its administrator's address."""
    with locked(folder):
        supervisor = Supervisor(folder, lambda line: print(line, file=sys.stderr))
        await supervisor.end_leftovers()
        store = SecretStore(folder / "secrets.json")
        postgres = postgres_of(folder, Ports(folder / "ports.json"), store)
        try:
            await postgres.start(supervisor)
            yield postgres.url
        finally:
            await supervisor.stop()


async def _dump_and_restore(admin_url: str, v1: VersionOne) -> float:
    name = unique("bench_restored")
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        await connection.execute("CHECKPOINT")
    tables = " ".join(f"--table=public.{table}" for table in TABLES)
    programs = programs_folder()
    pipe = (
        f"'{programs / 'pg_dump'}' {tables} '{v1.admin_url}'"
        f" | '{programs / 'psql'}' -X -q -v ON_ERROR_STOP=1 '{in_database(admin_url, name)}'"
    )
    began = time.monotonic()
    process = await asyncio.create_subprocess_shell(pipe, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError("pg_dump | psql failed")
    seconds = time.monotonic() - began
    await drop(admin_url, name)
    return seconds


async def _upgrade(admin_url: str, template: str, v1: VersionOne) -> float:
    v2 = await copy_template(admin_url, template)
    async with administering(admin_url) as connection:
        await connection.execute("CHECKPOINT")
    began = time.monotonic()
    await upgraded(v1, v2)
    seconds = time.monotonic() - began
    await drop(admin_url, v2.name)
    return seconds


def show(result: Result) -> None:
    """Print a table for people."""
    print(f"{result.rows:,} rows of version 1")
    for name, seconds in (
        ("pg_dump | psql", result.pg_dump_seconds),
        ("carnet upgrade data", result.upgrade_seconds),
    ):
        middle = median(seconds)
        each = ", ".join(f"{second:.1f}" for second in seconds)
        print(f"  {name:<20} {middle:>7.1f} s  {result.rows / middle:>9,.0f} rows/s  ({each})")
    print(f"  ratio {result.ratio:.2f}; promised 0.5, aimed at 0.8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the upgrade against pg_dump | psql.")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    result = asyncio.run(measure(chosen.users, chosen.runs))
    if chosen.json:
        print(json.dumps(result.as_json()))
    else:
        show(result)


if __name__ == "__main__":
    main()
