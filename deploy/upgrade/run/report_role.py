"""The role `carnet_report`: it reads all five schemas, writes nothing, and sees no secrets.

The structure step creates it if an administrator's address is set. The verification queries name
no schema, so the role's search_path lists all of them. Its own policies let it see every
organization.
"""

from importlib import import_module
from typing import Any

import asyncpg
from sqlalchemy import MetaData, Table
from sqlalchemy.engine import make_url

from deploy.local.system import SERVICES
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.targets import Target, signed_in

ROLE = "carnet_report"

# These tables contain secrets and nothing to report.
_WITHHELD_TABLES = frozenset(
    {
        "refresh_tokens",
        "signing_keys",
        "sign_in_sessions",
        "sign_in_challenges",
        "second_factors",
        "recovery_codes",
        "attempt_counts",
        "personal_values",
    }
)
_WITHHELD_COLUMNS = {"voucher_codes": {"code"}}
"""A code is a secret: it can be redeemed by anyone who knows it."""


async def ensure_role(target: Target) -> bool:
    """Create the role and grant its rights; return False if no report address is set.

    Raises UpgradeError.
    """
    if target.report is None:
        return False
    if target.administrator is not None:
        url = make_url(target.report)
        if url.username != ROLE or not url.password:
            raise UpgradeError(
                f"CARNET_REPORT_DATABASE_URL must sign in as {ROLE}, with a password.",
                f"Write postgresql://{ROLE}:PASSWORD@host:5432/database.",
            )
        await _create_role(target.administrator, str(url.password))
    for service in SERVICES:
        async with signed_in(target.owner(service), f"the schema of {service}") as owner:
            await _grant_schema(owner, service)
    return True


async def _create_role(administrator: str, password: str) -> None:
    async with signed_in(administrator, "the target as its administrator") as connection:
        exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE)
        literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        for statement in (
            f"{'ALTER' if exists else 'CREATE'} ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB"
            f" NOCREATEROLE PASSWORD {literal}",
            f"GRANT CONNECT ON DATABASE {database} TO {ROLE}",
            f"ALTER ROLE {ROLE} IN DATABASE {database} SET search_path = {', '.join(SERVICES)}",
            f"ALTER ROLE {ROLE} IN DATABASE {database} SET default_transaction_read_only = on",
        ):
            await connection.execute(statement)


async def _grant_schema(owner: Any, service: str) -> None:
    tables: MetaData = import_module(f"services.{service}.models").Base.metadata
    try:
        async with owner.transaction():
            await owner.execute(f'GRANT USAGE ON SCHEMA "{service}" TO {ROLE}')
            for table in tables.sorted_tables:
                if table.name not in _WITHHELD_TABLES:
                    await _grant_table(owner, table)
    except asyncpg.UndefinedObjectError as error:
        raise UpgradeError(
            f"There is no role {ROLE}.",
            "Set CARNET_ADMIN_DATABASE_URL to an administrator's address for this step, or unset"
            " CARNET_REPORT_DATABASE_URL to run without the role.",
        ) from error


async def _grant_table(owner: Any, table: Table) -> None:
    await owner.execute(f"REVOKE ALL ON {table.name} FROM {ROLE}")
    await owner.execute(f"GRANT SELECT{_granted_columns(table)} ON {table.name} TO {ROLE}")
    has_policies = "SELECT relrowsecurity FROM pg_class WHERE oid = $1::text::regclass"
    if await owner.fetchval(has_policies, table.name):
        await owner.execute(f"DROP POLICY IF EXISTS report ON {table.name}")
        await owner.execute(
            f"CREATE POLICY report ON {table.name} FOR SELECT TO {ROLE} USING (true)"
        )


def _granted_columns(table: Table) -> str:
    """Return the list of columns to grant, or an empty text for the whole table."""
    secrets = _WITHHELD_COLUMNS.get(table.name, set())
    columns = [
        column.name
        for column in table.columns
        if not column.info.get("secret") and column.name not in secrets
    ]
    if len(columns) == len(table.columns):
        return ""
    return f" ({', '.join(columns)})"
