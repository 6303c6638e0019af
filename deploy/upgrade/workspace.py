"""The upgrade's own tables in the schemas it fills: its plan, its progress, what it found.

They are no part of a service's schema, so no migration makes them: the schema's owner does when
the upgrade begins, and removes the last of them when it is rolled back.
"""

from typing import Any

from deploy.upgrade.copy_step import LANES
from deploy.upgrade.steps import COPIES
from deploy.upgrade.targets import COPIED_INTO, Connections

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS upgrade_plan (
        upgrade_id uuid PRIMARY KEY,
        only_one boolean NOT NULL DEFAULT true UNIQUE CHECK (only_one),
        began_at timestamptz NOT NULL,
        source text NOT NULL,
        extents jsonb NOT NULL,
        system_admin_id bigint,
        organization_made boolean NOT NULL,
        organization_id bigint,
        timezone text,
        today date,
        finished_at timestamptz,
        rolling_back boolean NOT NULL DEFAULT false
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS upgrade_steps (
        step text PRIMARY KEY,
        last_id bigint NOT NULL DEFAULT 0,
        rows bigint NOT NULL DEFAULT 0,
        finished_at timestamptz
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS upgrade_findings (
        table_name text,
        rule text,
        id bigint,
        detail jsonb NOT NULL,
        PRIMARY KEY (table_name, rule, id)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS upgrade_voucher_types (
        id bigint PRIMARY KEY,
        made boolean NOT NULL
    )
    """,
)
_NAMES = ("upgrade_plan", "upgrade_steps", "upgrade_findings", "upgrade_voucher_types")

EMAILS_STAGING = {"id": "bigint", "email": "text", "created_at": "timestamp"}


async def make_tables(owners: Connections) -> None:
    """Make what is missing of the upgrade's own tables."""
    for service in COPIED_INTO:
        async with owners[service].transaction():
            for statement in _TABLES:
                await owners[service].execute(statement)


async def make_staging(owners: Connections) -> None:
    """Make the tables that a chunk of rows passes through.

    COPY is refused where row-level security is on, and the services' roles may not make temporary
    tables. Nothing is ever committed in these: each chunk's transaction empties them again.
    """
    for step in COPIES:
        for lane in range(LANES):
            table = step.staging_table(lane)
            await _make_staging(owners[step.service], table, step.staging, step.service)
    await _make_staging(owners["identity"], "upgrade_emails", EMAILS_STAGING, "identity")


async def _make_staging(owner: Any, table: str, columns: dict[str, str], role: str) -> None:
    listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    async with owner.transaction():
        await owner.execute(f"CREATE UNLOGGED TABLE IF NOT EXISTS {table} ({listed})")
        await owner.execute(f'GRANT SELECT, INSERT, TRUNCATE ON {table} TO "{role}"')


async def drop_staging(owners: Connections) -> None:
    """Remove what chunks passed through."""
    for step in COPIES:
        listed = ", ".join(step.staging_table(lane) for lane in range(LANES))
        await owners[step.service].execute(f"DROP TABLE IF EXISTS {listed}")
    await owners["identity"].execute("DROP TABLE IF EXISTS upgrade_emails")


async def drop_tables(owners: Connections) -> None:
    """Remove the upgrade's memory; that of organizations, which is the first, goes last."""
    for service in reversed(COPIED_INTO):
        await owners[service].execute(f"DROP TABLE IF EXISTS {', '.join(_NAMES)}")


async def exists(connection: Any) -> bool:
    """Say whether an upgrade has begun in a schema."""
    return bool(await connection.fetchval("SELECT to_regclass('upgrade_plan') IS NOT NULL"))
