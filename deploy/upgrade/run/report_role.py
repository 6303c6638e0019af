"""The role `carnet_report`: reads all five schemas, writes nothing, and sees no secret.

Made by the structure step where an administrator's address is known. The user's queries name no
schema, so the role's search_path spans them; policies of its own let it see every organization.
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

# Nothing to report in them, and much to steal.
_WITHHELD_TABLES = frozenset(
    {"refresh_tokens", "signing_keys", "sign_in_sessions", "attempt_counts", "personal_values"}
)
_WITHHELD_COLUMNS = {"voucher_codes": {"code"}}
"""Whoever knows a code is believed."""


async def ensure_role(target: Target) -> bool:
    """Make the role and let it read; return whether there was enough to make it with.

    Raises UpgradeError.
    """
    if target.report is None:
        return False
    if target.administrator is not None:
        await _make_role(target.administrator, _password(target.report))
    for service in SERVICES:
        async with signed_in(target.owner(service), f"the schema of {service}") as owner:
            await _let_read(owner, service)
    return True


def _password(report_url: str) -> str:
    parsed = make_url(report_url)
    if parsed.username != ROLE or not parsed.password:
        raise UpgradeError(
            f"CARNET_REPORT_DATABASE_URL must sign in as {ROLE}, with a password.",
            f"Write postgresql://{ROLE}:PASSWORD@host:5432/database.",
        )
    return str(parsed.password)


async def _make_role(administrator: str, password: str) -> None:
    async with signed_in(administrator, "the target as its administrator") as connection:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE)
        literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        for statement in (
            f"{'ALTER' if known else 'CREATE'} ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB"
            f" NOCREATEROLE PASSWORD {literal}",
            f"GRANT CONNECT ON DATABASE {database} TO {ROLE}",
            f"ALTER ROLE {ROLE} IN DATABASE {database} SET search_path = {', '.join(SERVICES)}",
            f"ALTER ROLE {ROLE} IN DATABASE {database} SET default_transaction_read_only = on",
        ):
            await connection.execute(statement)


async def _let_read(owner: Any, service: str) -> None:
    tables: MetaData = import_module(f"services.{service}.models").Base.metadata
    try:
        async with owner.transaction():
            await owner.execute(f'GRANT USAGE ON SCHEMA "{service}" TO {ROLE}')
            for table in tables.sorted_tables:
                if table.name not in _WITHHELD_TABLES:
                    await _let_read_table(owner, table)
    except asyncpg.UndefinedObjectError as error:
        raise UpgradeError(
            f"There is no role {ROLE}.",
            "Set CARNET_ADMIN_DATABASE_URL to an administrator's address for this step, or unset"
            " CARNET_REPORT_DATABASE_URL to do without.",
        ) from error


async def _let_read_table(owner: Any, table: Table) -> None:
    await owner.execute(f"REVOKE ALL ON {table.name} FROM {ROLE}")
    await owner.execute(f"GRANT SELECT{_columns(table)} ON {table.name} TO {ROLE}")
    protected = "SELECT relrowsecurity FROM pg_class WHERE oid = $1::text::regclass"
    if await owner.fetchval(protected, table.name):
        await owner.execute(f"DROP POLICY IF EXISTS report ON {table.name}")
        await owner.execute(
            f"CREATE POLICY report ON {table.name} FOR SELECT TO {ROLE} USING (true)"
        )


def _columns(table: Table) -> str:
    """Return the columns to grant: all, by granting the table, where none is a secret."""
    withheld = _WITHHELD_COLUMNS.get(table.name, set())
    open_ones = [
        column.name
        for column in table.columns
        if not column.info.get("secret") and column.name not in withheld
    ]
    if len(open_ones) == len(table.columns):
        return ""
    return f" ({', '.join(open_ones)})"
