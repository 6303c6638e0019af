"""The upgrade's own tables in the schemas that it fills: its plan, progress and findings.

They are not part of a service's schema, so no migration creates them. The schema's owner creates
them when the upgrade begins, and drops them when it is rolled back.
"""

from typing import Any

from deploy.upgrade.targets import COPIED_INTO, Connections
from services.vouchers.version_one import tables as staging
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
    staging.CREATE_FINDINGS,
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


async def create_tables(owners: Connections) -> None:
    """Create the upgrade's own tables if they are missing."""
    for service in COPIED_INTO:
        async with owners[service].transaction():
            for statement in _TABLES:
                await owners[service].execute(statement)


async def create_emails_table(owners: Connections) -> None:
    """Create the table in which equal addresses are found."""
    await owners["identity"].execute(
        "CREATE UNLOGGED TABLE IF NOT EXISTS upgrade_emails"
        " (id bigint, email text, created_at timestamp)"
    )


async def drop_emails_table(owners: Connections) -> None:
    """Drop the table of addresses."""
    await owners["identity"].execute("DROP TABLE IF EXISTS upgrade_emails")


async def create_staging(owners: Connections) -> None:
    """Create the tables in which sessions and reservations wait for their conversion."""
    for statement in staging.CREATE:
        await owners["vouchers"].execute(statement)


async def drop_staging(owners: Connections) -> None:
    """Drop these tables."""
    await owners["vouchers"].execute(staging.DROP)


async def drop_tables(owners: Connections) -> None:
    """Drop the upgrade's own tables; those of organizations, which has the first plan, go last."""
    for service in reversed(COPIED_INTO):
        await _drop_tables(owners[service])


async def drop_unplanned(owners: Connections) -> None:
    """Drop the tables, notices included, of an upgrade that ended before it stored a plan."""
    for service in COPIED_INTO:
        owner = owners[service]
        has_plan = await exists(owner) and await owner.fetchval("SELECT 1 FROM upgrade_plan")
        if not has_plan:
            await _drop_tables(owner)


async def _drop_tables(owner: Any) -> None:
    await owner.execute(f"DROP TABLE IF EXISTS {', '.join(_NAMES)}")


async def exists(connection: Any) -> bool:
    """Return whether the upgrade's tables exist in a schema."""
    return bool(await connection.fetchval("SELECT to_regclass('upgrade_plan') IS NOT NULL"))
