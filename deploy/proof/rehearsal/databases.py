"""Databases of version 1 and targets of version 2, each in its own database."""

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

# Roles belong to the whole server, and tests run in parallel.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('carnet.test', 0))"


def unique(prefix: str) -> str:
    """Return a database name that no other test uses."""
    return f"{prefix}_{os.getpid()}_{next(_numbers)}"


@asynccontextmanager
async def administering(admin_url: str) -> AsyncIterator[Any]:
    """Connect to the server as its administrator, under a lock that excludes other tests."""
    connection = await asyncpg.connect(in_database(admin_url, "postgres"))
    try:
        await connection.execute(_LOCK)
        yield connection
    finally:
        await connection.close()


_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


async def drop(admin_url: str, name: str) -> None:
    """End a database's sessions and drop it: PostgreSQL 12 has no DROP DATABASE … WITH (FORCE)."""
    async with administering(admin_url) as connection:
        await connection.execute(_END_SESSIONS, name)
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')


async def execute(url: str, *statements: str) -> None:
    """Run statements; each may contain several."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def rows(url: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """Return the rows of a query as the user of the URL."""
    connection = await asyncpg.connect(url)
    try:
        return [dict(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


@dataclass(frozen=True)
class VersionOne:
    """A database of version 1, with the addresses of the superuser and of a read-only user."""

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
    """A migrated database of version 2, with the addresses for the upgrade."""

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
        """The target's addresses as environment variables."""
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
    """Both versions after an upgrade, and its summary."""

    v1: VersionOne
    v2: VersionTwo
    summary: dict[str, Any]


def server_of_version_one(otherwise: str) -> str:
    """Return the administrator's address of the server for version 1's databases.

    CARNET_TEST_V1_DATABASE_URL can name another server, for instance one of PostgreSQL 12.
    """
    return os.environ.get("CARNET_TEST_V1_DATABASE_URL") or otherwise


async def make_version_one(admin_url: str, *files: str) -> VersionOne:
    """Create a database of version 1 from SQL files of the data folder."""
    name = unique("upgrade_v1")
    database = VersionOne(in_database(admin_url, name), name)
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
        await make_reader(connection)
    texts = await asyncio.to_thread(lambda: [(DATA / file).read_text() for file in files])
    await database.execute(*texts, *READERS_GRANTS)
    return database


READERS_GRANTS = (
    f"GRANT USAGE ON SCHEMA public TO {READER}",
    f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}",
    f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {READER}",
)


async def make_reader(connection: Any) -> None:
    """Create version 1's read-only user, unless it exists."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", READER):
        await connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute(f"ALTER ROLE {READER} SET default_transaction_read_only = on")


async def make_template(admin_url: str) -> str:
    """Create a migrated database of version 2 as a template; return its name."""
    name = unique("upgrade_template")
    database = VersionTwo(in_database(admin_url, name), name)
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        for service in SERVICES:
            await provision(database.admin_url, service, password=PASSWORD, owner_password=PASSWORD)
        await upgrade_structure(replace(database.target, administrator=database.admin_url))
    return name


async def copy_template(admin_url: str, template: str) -> VersionTwo:
    """Create a migrated database of version 2 from the template."""
    name = unique("upgrade_v2")
    database = VersionTwo(in_database(admin_url, name), name)
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
    await database.execute(
        *(
            f'GRANT CONNECT ON DATABASE "{name}" TO "{role}"'
            for role in (*SERVICES, *(f"{s}_owner" for s in SERVICES), ROLE)
        )
    )
    return database


async def upgraded(
    v1: VersionOne, v2: VersionTwo, *, system_admin: str | None = None, chunk_rows: int = 50_000
) -> dict[str, Any]:
    """Upgrade the data as the read-only user; return the summary."""
    return await upgrade_data(
        v2.target, v1.reader, system_admin, NoProgress(), chunk_rows=chunk_rows
    )
