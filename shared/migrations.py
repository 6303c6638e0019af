"""Alembic, the same way for every schema: as its owner, one at a time, never waiting long."""

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

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.migrate', 0))")
# Partitions come and go at run time; the models know their parent alone.
_PARTITIONS = text("SELECT relname FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')")


class OwnerSettings(BaseSettings):
    """Where the schema is, and who owns it: `<SERVICE>_OWNER_DATABASE_URL`."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    owner_database_url: DatabaseUrl


def metadata_of(service: MetaData) -> MetaData:
    """Return everything a service's schema holds: its own tables and the shared ones.

    In one collection: Alembic names constraints by our convention only if it is given one.
    """
    together = metadata()
    for table in (*service.sorted_tables, *SharedBase.metadata.sorted_tables):
        table.to_metadata(together)
    return together


def run(service: MetaData) -> None:
    """Be a migrations folder's `env.py`: run what Alembic wants on the connection it was given."""
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
    """Bring a schema to a revision.

    In one transaction behind an advisory lock, so that two at once do it once; a lock on a table
    in use is not waited for longer than five seconds, because everybody else would queue behind it.
    """
    engine = create_async_engine(owner_url.get_secret_value())
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            await connection.execute(_LOCK)
            await connection.run_sync(_upgrade, package, revision)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, package: str, revision: str) -> None:
    config = config_of(package)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def drift(owner_url: SecretStr, service: MetaData) -> list[Any]:
    """Return how a migrated schema differs from the models: empty when they agree."""
    engine = create_async_engine(owner_url.get_secret_value())
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_differences, service)
    finally:
        await engine.dispose()


def _differences(connection: Connection, service: MetaData) -> list[Any]:
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
    """Create the tables that every schema holds a copy of: a part of each first migration.

    Frozen as of version 2.0: a later change of these tables is a migration of every service.
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
    # Rows live for milliseconds: without frequent cleaning every read would pass the dead ones.
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
    """Give idempotency keys a fingerprint that outlives the signing key; part of one migration of
    every service. Nullable: instances of version 2.0 go on writing rows without it."""
    op.add_column("idempotency_keys", sa.Column("body_digest", sa.Text))


def head_of(package: str) -> str | None:
    """Return the newest revision of a package."""
    return ScriptDirectory.from_config(config_of(package)).get_current_head()


def main(package: str) -> None:
    """Be `python -m services.<name>.migrate`.

    Raises SystemExit while a notice of maintenance stands in the schema.
    """
    prefix = package.rpartition(".")[2].upper() + "_"
    settings = load_settings(OwnerSettings, _env_prefix=prefix)
    asyncio.run(_migrate(package, settings.owner_database_url))
    sys.stdout.write(f"{package} is at {head_of(package)}\n")


async def _migrate(package: str, owner_url: SecretStr) -> None:
    engine = make_engine(owner_url, pool_size=1)
    try:
        await refuse_to_start(engine)
    finally:
        await engine.dispose()
    await upgrade(package, owner_url)
