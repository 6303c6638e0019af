"""The upgrade of version 1's data, compared with `pg_dump | psql` of the same tables."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import asyncpg

from deploy.local.errors import StartError
from deploy.local.ports import Ports
from deploy.local.postgres import programs_folder
from deploy.local.secret_store import SecretStore
from deploy.local.servers import locked, postgres_of
from deploy.local.supervisor import Supervisor
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.version_one import fill
from deploy.proof.rehearsal.databases import (
    VersionOne,
    administering,
    copy_template,
    drop,
    make_template,
    make_version_one,
    unique,
    upgraded,
)
from deploy.upgrade.run.table_copy import CHUNK_ROWS
from deploy.upgrade.source import TABLES
from shared.provisioning import in_database


@asynccontextmanager
async def open_upgrade(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    users = environment.scale.users
    # An operator's upgrade has the whole machine, and both variants use two cores.
    with environment.on_all_cores():
        async with running_postgres(environment) as admin_url:
            v1 = await make_version_one(admin_url, "schema.sql")
            template = await make_template(admin_url)
            try:
                environment.say(f"creating version 1's tables with {users:,} users")
                rows = await fill(v1, users)
                yield {
                    "pg_dump | psql": partial(dump_and_restore, admin_url, v1, rows),
                    "carnet upgrade data": partial(upgrade, admin_url, template, v1, rows),
                }
            finally:
                for name in (v1.name, template):
                    await drop(admin_url, name)


@asynccontextmanager
async def running_postgres(environment: BenchEnvironment) -> AsyncIterator[str]:
    """Run a PostgreSQL on all cores, durable as in `make run`; yield the admin's address."""
    folder = environment.folder / "upgrade"
    with locked(folder):
        supervisor = Supervisor(folder, environment.say)
        await supervisor.end_leftovers()
        store = SecretStore(folder / "secrets.json")
        postgres = postgres_of(folder, Ports(folder / "ports.json"), store)
        try:
            await postgres.start(supervisor)
            yield postgres.url
        finally:
            await supervisor.stop()


async def dump_and_restore(admin_url: str, v1: VersionOne, rows: int) -> Figures:
    name = unique("bench_restored")
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        await connection.execute("CHECKPOINT")
    tables = " ".join(f"--table=public.{table}" for table in TABLES)
    programs = programs_folder()
    pipe = (
        f"set -o pipefail; '{programs / 'pg_dump'}' {tables} '{v1.admin_url}'"
        f" | '{programs / 'psql'}' -X -q -v ON_ERROR_STOP=1 '{in_database(admin_url, name)}'"
    )
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", pipe, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise StartError("pg_dump | psql failed.", "Read its message above.")
    figures = await _figures(in_database(admin_url, name), "public", rows, began)
    await drop(admin_url, name)
    return figures


async def upgrade(admin_url: str, template: str, v1: VersionOne, rows: int) -> Figures:
    v2 = await copy_template(admin_url, template)
    async with administering(admin_url) as connection:
        await connection.execute("CHECKPOINT")
    began = time.monotonic()
    await upgraded(v1, v2, chunk_rows=CHUNK_ROWS)
    figures = await _figures(v2.admin_url, "vouchers", rows, began)
    await drop(admin_url, v2.name)
    return figures


async def _figures(url: str, schema: str, rows: int, began: float) -> Figures:
    """Return the rate. Raises StartError if codes are missing."""
    seconds = time.monotonic() - began
    connection = await asyncpg.connect(url)
    try:
        table = f"{schema}.voucher_codes"
        codes = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
    finally:
        await connection.close()
    if codes < rows // 2:
        raise StartError(f"Only {codes:,} codes of {rows:,} rows were copied.", "Report this bug.")
    return {"per_second": rows / seconds, "seconds": seconds}


UPGRADE = Measurement(
    name="upgrade",
    title="The upgrade from version 1",
    note="200,000 users, or as `--users 1000000` says, two vouchers of ten codes for each and what "
    "belongs to them, copied inside one PostgreSQL that syncs to the disk; rows of version 1 a "
    "second. pg_dump copies them and nothing more; the upgrade also converts them, writes the "
    "ledger and the copies, and builds version 2's keys. Both have all cores.",
    open_runs=open_upgrade,
    aims=(
        Aim(
            "upgrade: rate, of pg_dump | psql's",
            of="carnet upgrade data.per_second",
            against="pg_dump | psql.per_second",
            solid=0.5,
            ambitious=0.8,
        ),
    ),
)
