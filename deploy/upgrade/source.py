"""Version 1's database: read in one snapshot, written to by nothing."""

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
"""Of every session: the same instant has the same text on both sides; neither a long copy nor the
snapshot, which is held to the end, is cut off by a limit that was set for clerks at work; and what
is sorted of a chunk is sorted in memory."""

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

_COLUMNS_THERE = """
    SELECT c.relname AS table_name, array_agg(a.attname::text) AS columns,
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = 'public' AND c.relname = ANY($1::text[])
    GROUP BY n.oid, c.oid, c.relname
"""
# Null where the sequence was never used, or is not ours to read.
_SEQUENCE = """
    SELECT last_value FROM pg_catalog.pg_sequences
    WHERE schemaname || '.' || sequencename = pg_get_serial_sequence($1, 'id')
"""


@dataclass(frozen=True)
class Extent:
    """What version 1 holds of a table: how many rows, and the highest id that it ever gave."""

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
    async def another(self) -> AsyncIterator[Any]:
        """Open one more connection that sees the same snapshot. Raises UpgradeError."""
        connection = await connect(self.dsn, "version 1's database", "--source")
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(f"SET TRANSACTION SNAPSHOT '{self.snapshot}'")
                yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)

    async def require_timezone(self, name: str) -> None:
        """Make sure that version 1's server knows a time zone. Raises UpgradeError."""
        try:
            async with self.connection.transaction():
                await self.connection.fetchval("SELECT now() AT TIME ZONE $1::text", name)
        except asyncpg.InvalidParameterValueError as error:
            raise UpgradeError(
                f"Version 1's server does not know the time zone {name}, which is the default"
                " organization's.",
                "Let the organization have an older name of it until the upgrade is done.",
            ) from error

    async def extents(self) -> dict[str, Extent]:
        """Count every table."""
        return {table: await self._extent(table) for table in TABLES}

    async def _extent(self, table: str) -> Extent:
        # Names of tables are this module's own constants, here and below.
        found = await self.connection.fetchrow(
            f"SELECT count(*) AS rows, coalesce(max(id), 0) AS last_id FROM public.{table}"  # noqa: S608
        )
        given = await self.connection.fetchval(_SEQUENCE, f"public.{table}")
        return Extent(found["rows"], max(found["last_id"], given or 0))

    async def highest_ids(self) -> dict[str, int]:
        """Return the highest id that a row of each table has."""
        return {
            table: await self.connection.fetchval(
                f"SELECT coalesce(max(id), 0) FROM public.{table}"  # noqa: S608
            )
            for table in TABLES
        }


@asynccontextmanager
async def open_source(dsn: str) -> AsyncIterator[Source]:
    """Open version 1's database for reading: one snapshot, in a transaction that cannot write.

    Raises UpgradeError when it cannot be reached, or is not version 1's.
    """
    connection = await connect(dsn, "version 1's database", "--source")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _check(connection)
            yield Source(
                dsn,
                connection,
                await connection.fetchval("SELECT pg_export_snapshot()"),
                await connection.fetchval("SELECT current_database()"),
                connection.get_server_version().major,
            )
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def connect(dsn: str, what: str, where_from: str) -> Any:
    """Open a connection with our session settings. Raises UpgradeError."""
    try:
        url = make_url(dsn).set(drivername="postgresql")
        return await asyncpg.connect(
            url.render_as_string(hide_password=False),
            timeout=CONNECT_SECONDS,
            server_settings=SESSION,
        )
    except ArgumentError as error:
        raise UpgradeError(
            f"{where_from} is no address of a database.",
            "Write it as postgresql://user:password@host:5432/database.",
        ) from error
    except _FAILURES as error:
        raise UpgradeError(
            f"Cannot sign in to {what}: {error}", f"Check {where_from}: address, user, password."
        ) from error


async def _check(connection: Any) -> None:
    if connection.get_server_version().major < OLDEST_SERVER:
        raise UpgradeError(
            f"Version 1's server is PostgreSQL {connection.get_server_version().major}.",
            f"The upgrade reads PostgreSQL {OLDEST_SERVER} and later: upgrade the server first.",
        )
    found = {row["table_name"]: row for row in await connection.fetch(_COLUMNS_THERE, TABLES)}
    for table in TABLES:
        _check_table(table, found.get(table))


def _check_table(table: str, found: Mapping[str, Any] | None) -> None:
    if found is None:
        raise UpgradeError(
            f"There is no table public.{table}: this is not version 1's database.",
            "Check the name of the database in --source.",
        )
    missing = [c for c in (*_OF_EVERY_TABLE, *COLUMNS[table]) if c not in found["columns"]]
    if missing:
        raise UpgradeError(
            f"public.{table} lacks {', '.join(missing)}: it is not as version 1 made it.",
            "Compare it with version 1's schema; nothing was changed.",
        )
    if not found["readable"]:
        raise UpgradeError(
            f"The user of --source may not read public.{table}.",
            f"As its owner: GRANT USAGE ON SCHEMA public, then GRANT SELECT ON {', '.join(TABLES)}"
            " to that user.",
        )
