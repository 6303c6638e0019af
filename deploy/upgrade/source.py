"""Version 1's database, which is read in one snapshot and never written to."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from deploy.upgrade.errors import UpgradeError

OLDEST_SERVER = 12
CONNECT_SECONDS = 15.0
APPLICATION = "carnet upgrade"
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "application_name": APPLICATION,
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "work_mem": "64MB",
}
"""The settings of every session. With them an instant has the same text on both sides, limits that
were set for interactive users end neither a long copy nor the snapshot, and a chunk is sorted in
memory."""

TABLES = ("users", "therapy_classes", "vouchers", "voucher_codes", "sessions", "reservations")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "users": ("email", "name", "password_hash", "role", "is_active"),
    "therapy_classes": (
        "name", "description", "duration_minutes", "capacity", "therapist_id", "is_active",
    ),
    "vouchers": (
        "client_id", "therapy_class_id", "purchase_date", "valid_until", "total_sessions",
        "used_sessions", "is_active",
    ),
    "voucher_codes": ("voucher_id", "code", "is_spare", "is_used", "used_date"),
    "sessions": ("therapy_class_id", "session_date", "status", "notes"),
    "reservations": ("client_id", "therapy_class_id", "session_date", "voucher_code_id", "status"),
}  # fmt: skip
_OF_EVERY_TABLE = ("id", "created_at", "updated_at")

_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError)

_EXISTING_COLUMNS = """
    SELECT c.relname AS table_name, array_agg(a.attname::text) AS columns,
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = 'public' AND c.relname = ANY($1::text[])
    GROUP BY n.oid, c.oid, c.relname
"""
# Null if the sequence was never used or may not be read.
_SEQUENCE = """
    SELECT last_value FROM pg_catalog.pg_sequences
    WHERE schemaname || '.' || sequencename = pg_get_serial_sequence($1, 'id')
"""


@dataclass(frozen=True)
class Extent:
    """The number of rows of a table of version 1, and the highest id that it ever assigned."""

    rows: int
    last_id: int


@dataclass(frozen=True)
class Source:
    """An open snapshot of version 1."""

    dsn: str = field(repr=False)
    connection: Any
    snapshot: str
    name: str
    version: int

    @asynccontextmanager
    async def second_connection(self) -> AsyncIterator[Any]:
        """Open another connection that sees the same snapshot. Raises UpgradeError."""
        connection = await connect(self.dsn, "version 1's database", "--source")
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(f"SET TRANSACTION SNAPSHOT '{self.snapshot}'")
                yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)

    async def require_timezone(self, name: str) -> None:
        """Check that version 1's server knows a time zone. Raises UpgradeError if it does not."""
        try:
            async with self.connection.transaction():
                await self.connection.fetchval("SELECT now() AT TIME ZONE $1::text", name)
        except asyncpg.InvalidParameterValueError as error:
            raise UpgradeError(
                f"Version 1's server does not know the default organization's time zone {name}.",
                "Set an older name of the same zone in the organization until the upgrade is done.",
            ) from error

    async def extents(self) -> dict[str, Extent]:
        """Return the extent of every table."""
        return {table: await self._extent(table) for table in TABLES}

    async def _extent(self, table: str) -> Extent:
        # The names of tables are constants of this module, here and below.
        row = await self.connection.fetchrow(
            f"SELECT count(*) AS rows, coalesce(max(id), 0) AS last_id FROM public.{table}"  # noqa: S608
        )
        last_assigned = await self.connection.fetchval(_SEQUENCE, f"public.{table}")
        return Extent(row["rows"], max(row["last_id"], last_assigned or 0))

    async def highest_ids(self) -> dict[str, int]:
        """Return the highest id of each table's rows."""
        return {
            table: await self.connection.fetchval(
                f"SELECT coalesce(max(id), 0) FROM public.{table}"  # noqa: S608
            )
            for table in TABLES
        }


@asynccontextmanager
async def open_source(dsn: str) -> AsyncIterator[Source]:
    """Open version 1's database for reading: one snapshot, in a transaction that cannot write.

    Raises UpgradeError if it cannot be reached or is not a database of version 1.
    """
    connection = await connect(dsn, "version 1's database", "--source")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _require_version_1(connection)
            yield Source(
                dsn,
                connection,
                await connection.fetchval("SELECT pg_export_snapshot()"),
                await connection.fetchval("SELECT current_database()"),
                connection.get_server_version().major,
            )
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def connect(dsn: str, database: str, origin: str) -> Any:
    """Open a connection with the settings of `SESSION`. Raises UpgradeError."""
    try:
        url = make_url(dsn).set(drivername="postgresql")
        return await asyncpg.connect(
            url.render_as_string(hide_password=False),
            timeout=CONNECT_SECONDS,
            server_settings=SESSION,
        )
    except ArgumentError as error:
        raise UpgradeError(
            f"{origin} is not the address of a database.",
            "Write it as postgresql://user:password@host:5432/database.",
        ) from error
    except _FAILURES as error:
        raise UpgradeError(
            f"Cannot sign in to {database}: {error}",
            f"Check address, user and password of {origin}.",
        ) from error


async def _require_version_1(connection: Any) -> None:
    if connection.get_server_version().major < OLDEST_SERVER:
        raise UpgradeError(
            f"Version 1's server is PostgreSQL {connection.get_server_version().major}.",
            f"The upgrade reads PostgreSQL {OLDEST_SERVER} and later: upgrade the server first.",
        )
    tables = {row["table_name"]: row for row in await connection.fetch(_EXISTING_COLUMNS, TABLES)}
    for table in TABLES:
        _require_table(table, tables.get(table))


def _require_table(table: str, description: Mapping[str, Any] | None) -> None:
    if description is None:
        raise UpgradeError(
            f"There is no table public.{table}: this is not version 1's database.",
            "Check the name of the database in --source.",
        )
    missing = [c for c in (*_OF_EVERY_TABLE, *COLUMNS[table]) if c not in description["columns"]]
    if missing:
        raise UpgradeError(
            f"public.{table} lacks {', '.join(missing)}: this is not version 1's table.",
            "Compare it with version 1's schema. Nothing was changed.",
        )
    if not description["readable"]:
        raise UpgradeError(
            f"The user of --source may not read public.{table}.",
            "As the owner, grant that user USAGE ON SCHEMA public and SELECT ON"
            f" {', '.join(TABLES)}.",
        )
