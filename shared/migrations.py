"""Migrations with Alembic: as the schema's owner, one at a time, with a short lock timeout."""

import asyncio
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command, context, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine

import shared.idempotency
import shared.inbox  # noqa: F401 - its table belongs to SharedBase
from shared.db import make_engine, metadata
from shared.maintenance import refuse_to_start
from shared.outbox import SharedBase
from shared.settings import DatabaseUrl, load_settings
from shared.tenancy import policy_statements

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.migrate', 0))")
# Partitions are created and dropped at run time; the models describe only their parent.
_PARTITIONS = text("SELECT relname FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')")


class OwnerSettings(BaseSettings):
    """The address with which a schema's owner signs in: `<SERVICE>_OWNER_DATABASE_URL`."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    owner_database_url: DatabaseUrl


def metadata_of(service: MetaData) -> MetaData:
    """Return all tables of a service's schema: its own and the shared ones.

    Alembic applies our naming convention only to a single collection.
    """
    tables = metadata()
    for table in (*service.sorted_tables, *SharedBase.metadata.sorted_tables):
        table.to_metadata(tables)
    return tables


def run(service: MetaData) -> None:
    """Run the migrations on the connection in Alembic's attributes; for a folder's `env.py`."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata_of(service),
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def config_of(package: str) -> Config:
    """Return Alembic's configuration for the migrations folder of a package."""
    config = Config()
    config.set_main_option("script_location", str(folder_of(package)))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def folder_of(package: str) -> Path:
    """Return a package's migrations folder."""
    return Path(str(files(package))) / "migrations"


async def upgrade(package: str, owner_url: SecretStr, revision: str = "head") -> None:
    """Migrate a schema to a revision.

    It runs in one transaction with an advisory lock, so that of two at once only one migrates. It
    waits at most five seconds for a lock on a table, because other queries wait behind it.
    """
    engine = create_async_engine(owner_url.get_secret_value())
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            await connection.execute(_LOCK)
            config = config_of(package)

            def run_alembic(sync_connection: Connection) -> None:
                config.attributes["connection"] = sync_connection
                command.upgrade(config, revision)

            await connection.run_sync(run_alembic)
    finally:
        await engine.dispose()


async def drift(owner_url: SecretStr, service: MetaData) -> list[Any]:
    """Return the differences between a migrated schema and the models."""
    engine = create_async_engine(owner_url.get_secret_value())
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(differences, service)
    finally:
        await engine.dispose()


def differences(connection: Connection, service: MetaData) -> list[Any]:
    """Return Alembic's list of differences, without partitions."""
    partitions = set(connection.execute(_PARTITIONS).scalars())

    def is_ours(name: str | None, kind: str, _parents: Any) -> bool:
        return kind != "table" or name not in partitions

    options = {
        "compare_type": True,
        "target_metadata": metadata_of(service),
        "include_name": is_ours,
    }
    migration = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(migration, metadata_of(service)))


def create_shared_tables() -> None:
    """Create the tables that every schema has; each service's first migration calls it.

    It does not change any more: a change of these tables is a new migration of every service.
    """
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", instant, nullable=False),
    )
    # Rows exist for milliseconds: without frequent vacuuming every read would scan dead rows.
    op.execute(
        "ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1)"
    )
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("handled_at", instant, nullable=False, index=True),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger),
        sa.Column("body", sa.LargeBinary),
        sa.Column("headers", postgresql.JSONB),
        sa.Column("resource_id", sa.BigInteger),
        sa.Column("leased_until", instant),
        sa.Column("created_at", instant, nullable=False, index=True),
    )


def add_body_digest() -> None:
    """Add the column `body_digest` to the idempotency keys; one migration of each service calls it.

    It is nullable, because instances of version 2.0 write rows without it.
    """
    op.add_column("idempotency_keys", sa.Column("body_digest", sa.Text))


def create_outgoing_mails() -> None:
    """Create the table of the messages that a service sends; one migration of each such service.

    A row is visible to its organization and to its user.
    """
    instant = sa.DateTime(timezone=True)
    table = "outgoing_mails"
    op.create_table(
        table,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("key", sa.Uuid, nullable=False, unique=True),
        sa.Column("organization_id", sa.BigInteger),
        sa.Column("user_id", sa.BigInteger, index=True),
        sa.Column("recipient", sa.Text),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("state", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("attempts", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("due_at", instant, nullable=False),
        sa.Column("give_up_at", instant, nullable=False),
        sa.Column("leased_until", instant),
        sa.Column("error", sa.Text),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("settled_at", instant),
        sa.CheckConstraint("state IN ('waiting', 'sent', 'parked')", name="state"),
    )
    for name, columns, condition in (
        ("waiting", ["id"], "state = 'waiting'"),
        ("recipient", ["recipient", "id"], "state = 'waiting'"),
        ("parked", ["id"], "state = 'parked'"),
        ("settled", ["settled_at"], "settled_at IS NOT NULL AND recipient IS NOT NULL"),
    ):
        op.create_index(f"ix_{table}_{name}", table, columns, postgresql_where=sa.text(condition))
    # Most rows live for seconds: without frequent vacuuming every claim would scan dead rows.
    op.execute(
        f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_threshold = 2000)"
    )
    for statement in policy_statements(table, user_column="user_id"):
        op.execute(statement)


def head_of(package: str) -> str | None:
    """Return the newest revision of a package."""
    return ScriptDirectory.from_config(config_of(package)).get_current_head()


def main(package: str) -> None:
    """Migrate a service's schema: the command `python -m services.<name>.migrate`.

    Raises SystemExit while the schema has a maintenance notice.
    """
    prefix = package.rpartition(".")[2].upper() + "_"
    settings = load_settings(OwnerSettings, _env_prefix=prefix)
    asyncio.run(migrate(package, settings.owner_database_url))
    sys.stdout.write(f"{package} is at {head_of(package)}\n")


async def migrate(package: str, owner_url: SecretStr) -> None:
    """Migrate a schema to its newest revision. Raises SystemExit while it has a notice."""
    engine = make_engine(owner_url, pool_size=1)
    try:
        await refuse_to_start(engine)
    finally:
        await engine.dispose()
    await upgrade(package, owner_url)
