"""The upgrade's own tables in the schemas it fills: its plan, its progress, what it found.

They are no part of a service's schema, so no migration makes them: the schema's owner does when
the upgrade begins, and removes the last of them when it is rolled back.
"""

from typing import Any

from deploy.upgrade.targets import COPIED_INTO, Connections
from shared.maintenance import MAKE_TABLE

_TABLES = (
    MAKE_TABLE,
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
        last_id bigint NOT NULL,
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
_NAMES = (
    "maintenance",
    "upgrade_plan",
    "upgrade_steps",
    "upgrade_findings",
    "upgrade_voucher_types",
)

EMAILS_COLUMNS = ("id", "email", "created_at")


async def make_tables(owners: Connections) -> None:
    """Make what is missing of the upgrade's own tables."""
    for service in COPIED_INTO:
        async with owners[service].transaction():
            for statement in _TABLES:
                await owners[service].execute(statement)


async def make_emails(owners: Connections) -> None:
    """Make the table in which equal addresses are found."""
    await owners["identity"].execute(
        "CREATE UNLOGGED TABLE IF NOT EXISTS upgrade_emails"
        " (id bigint, email text, created_at timestamp)"
    )


async def drop_emails(owners: Connections) -> None:
    """Remove it again."""
    await owners["identity"].execute("DROP TABLE IF EXISTS upgrade_emails")


async def drop_tables(owners: Connections) -> None:
    """Remove the upgrade's memory; that of organizations, which is the first, goes last."""
    for service in reversed(COPIED_INTO):
        await _drop_tables(owners[service])


async def drop_unplanned(owners: Connections) -> None:
    """Remove what an upgrade left that was interrupted before it had a plan, its notices too."""
    for service in COPIED_INTO:
        if not await _has_plan(owners[service]):
            await _drop_tables(owners[service])


async def _has_plan(owner: Any) -> bool:
    return await exists(owner) and bool(await owner.fetchval("SELECT 1 FROM upgrade_plan"))


async def _drop_tables(owner: Any) -> None:
    await owner.execute(f"DROP TABLE IF EXISTS {', '.join(_NAMES)}")


async def exists(connection: Any) -> bool:
    """Say whether an upgrade has begun in a schema."""
    return bool(await connection.fetchval("SELECT to_regclass('upgrade_plan') IS NOT NULL"))
