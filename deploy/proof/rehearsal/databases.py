"""Version 1's databases and version 2's targets, each in a database of its own."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from deploy.local.system import SERVICES
from deploy.upgrade.run.data import upgrade_data
from deploy.upgrade.run.progress import NoProgress
from deploy.upgrade.run.report_role import ROLE
from deploy.upgrade.run.structure import upgrade_structure
from deploy.upgrade.targets import Target
from shared.provisioning import database_url, in_database, provision
from shared.testing import PASSWORD

DATA = Path(__file__).parent / "data"
READER = "v1_reader"
_numbers = count(1)

# Roles belong to the whole server, and tests run side by side.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('carnet.test', 0))"


def unique(prefix: str) -> str:
    """Return a name for a database that no other test has."""
    return f"{prefix}_{os.getpid()}_{next(_numbers)}"


@asynccontextmanager
async def administering(admin_url: str) -> AsyncIterator[Any]:
    """Open the server as its administrator, alone among the tests."""
    connection = await asyncpg.connect(in_database(admin_url, "postgres"))
    try:
        await connection.execute(_LOCK)
        yield connection
    finally:
        await connection.close()


_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


async def drop(admin_url: str, name: str) -> None:
    """Drop a database and whoever uses it: PostgreSQL 12 has no word for both."""
    async with administering(admin_url) as connection:
        await connection.execute(_END_SESSIONS, name)
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')


async def execute(url: str, *statements: str) -> None:
    """Run statements, each of which may be several."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def rows(url: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """Return what is in a database, as whoever the URL signs in."""
    connection = await asyncpg.connect(url)
    try:
        return [dict(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


@dataclass(frozen=True)
class VersionOne:
    """A database of version 1: as the superuser, and as a user who may only read."""

    admin_url: str
    name: str

    @property
    def reader(self) -> str:
        return database_url(self.admin_url, READER, PASSWORD)

    async def execute(self, *statements: str) -> None:
        await execute(self.admin_url, *statements)

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        return await rows(self.admin_url, query, *arguments)


@dataclass(frozen=True)
class VersionTwo:
    """A migrated database of version 2, and the addresses that the upgrade is given."""

    admin_url: str
    name: str

    @property
    def target(self) -> Target:
        return Target(
            services={name: database_url(self.admin_url, name, PASSWORD) for name in SERVICES},
            owners={
                name: database_url(self.admin_url, f"{name}_owner", PASSWORD) for name in SERVICES
            },
            report=database_url(self.admin_url, ROLE, PASSWORD),
        )

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        target = self.target
        addresses = {f"{n.upper()}_DATABASE_URL": url for n, url in target.services.items()}
        owners = {f"{n.upper()}_OWNER_DATABASE_URL": url for n, url in target.owners.items()}
        return {**addresses, **owners, "CARNET_REPORT_DATABASE_URL": target.report or ""}

    async def execute(self, *statements: str) -> None:
        await execute(self.admin_url, *statements)

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        return await rows(self.admin_url, query, *arguments)

    async def value(self, query: str, *arguments: Any) -> Any:
        return next(iter((await self.rows(query, *arguments))[0].values()))


@dataclass(frozen=True)
class Upgraded:
    """Both versions after an upgrade, and what it told."""

    v1: VersionOne
    v2: VersionTwo
    told: dict[str, Any]


def server_of_version_one(otherwise: str) -> str:
    """Return the administrator's address of the server on which the tests make version 1.

    CARNET_TEST_V1_DATABASE_URL names one, for instance of PostgreSQL 12.
    """
    return os.environ.get("CARNET_TEST_V1_DATABASE_URL") or otherwise


async def make_version_one(admin_url: str, *files: str) -> VersionOne:
    """Make a database of version 1 from files of the data folder."""
    name = unique("upgrade_v1")
    made = VersionOne(in_database(admin_url, name), name)
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
        await make_reader(connection)
    texts = await asyncio.to_thread(lambda: [(DATA / file).read_text() for file in files])
    await made.execute(*texts, *READERS_GRANTS)
    return made


READERS_GRANTS = (
    f"GRANT USAGE ON SCHEMA public TO {READER}",
    f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}",
    f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {READER}",
)


async def make_reader(connection: Any) -> None:
    """Make version 1's user who may only read, once."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", READER):
        await connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute(f"ALTER ROLE {READER} SET default_transaction_read_only = on")


async def make_template(admin_url: str) -> str:
    """Make a migrated database of version 2 to copy from; return its name."""
    name = unique("upgrade_template")
    made = VersionTwo(in_database(admin_url, name), name)
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        for service in SERVICES:
            await provision(made.admin_url, service, password=PASSWORD, owner_password=PASSWORD)
        await upgrade_structure(replace(made.target, administrator=made.admin_url))
    return name


async def copy_template(admin_url: str, template: str) -> VersionTwo:
    """Make a migrated database of version 2."""
    name = unique("upgrade_v2")
    made = VersionTwo(in_database(admin_url, name), name)
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        # Settings of a role in a database are not copied with a template.
        for service in SERVICES:
            for role in (service, f"{service}_owner"):
                await connection.execute(
                    f'ALTER ROLE "{role}" IN DATABASE "{name}" SET search_path = "{service}"'
                )
        path = ", ".join(SERVICES)
        await connection.execute(f'ALTER ROLE {ROLE} IN DATABASE "{name}" SET search_path = {path}')
    await made.execute(
        *(
            f'GRANT CONNECT ON DATABASE "{name}" TO "{role}"'
            for role in (*SERVICES, *(f"{s}_owner" for s in SERVICES), ROLE)
        )
    )
    return made


async def upgraded(
    v1: VersionOne, v2: VersionTwo, *, system_admin: str | None = None, chunk_rows: int = 50_000
) -> dict[str, Any]:
    """Upgrade the data as a user who may only read; return the report."""
    return await upgrade_data(
        v2.target, v1.reader, system_admin, NoProgress(), chunk_rows=chunk_rows
    )
