"""Row-level security: the rows that a transaction may see, set in the server with SET LOCAL."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from shared.connections import TenantConnection, take_early_statements

_TENANT, _APPLIED = "tenant", "carnet.applied_tenant"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The rows that a transaction may see: by default none."""

    organization_id: int | None = None
    user_id: int | None = None
    everything: bool = False

    def settings(self) -> dict[str, str]:
        """Return the server's settings that apply this, without their prefix `carnet.`."""
        organization, user = (
            "" if number is None else str(int(number))
            for number in (self.organization_id, self.user_id)
        )
        scope = "all" if self.everything else "tenant"
        return {"scope": scope, "organization_id": organization, "user_id": user}

    def statement(self) -> str:
        """Return the statement that applies this to a transaction.

        It has no parameters, so that it can be sent together with BEGIN: its text is made of
        constants and of numbers only.
        """
        calls = (
            f"set_config('carnet.{name}', '{text}', true)" for name, text in self.settings().items()
        )
        return f"SELECT {', '.join(calls)}"


EVERYTHING = Tenant(everything=True)
NOTHING = Tenant()


async def limit_to(session: AsyncSession, tenant: Tenant) -> None:
    """Let the rest of this session see only the tenant's rows.

    SET LOCAL and never SET: a session-level value would remain after the connection returns to the
    pool, and the next request would see another tenant's rows. So every transaction sets it again.
    """
    session.info[_TENANT] = tenant
    if session.in_transaction() and session.info.get(_APPLIED) != tenant:
        await session.run_sync(lambda inner: _apply(inner, None, inner.connection()))


async def see_all_tenants(session: AsyncSession) -> None:
    """Let the rest of this session see the rows of every tenant.

    A use case calls it after it has decided which rows the actor may see, and selects only these
    in its queries. It costs no statement before the session's first one.
    """
    await limit_to(session, EVERYTHING)


class Limited(Protocol):
    """Reads the rows of one tenant only."""

    def limited_to(self, tenant: Tenant) -> Self:
        """Return the same for another tenant."""


Reading = TypeVar("Reading", bound=Limited)


def all_tenants(reader: Reading) -> Reading:
    """Return a reader that sees the rows of every tenant, as `see_all_tenants` for a session."""
    return reader.limited_to(EVERYTHING)


@event.listens_for(Session, "after_begin")
def _apply(session: Session, _transaction: Any, connection: Connection) -> None:
    tenant: Tenant | None = session.info.get(_TENANT)
    driver = connection.connection.driver_connection
    begins = not (isinstance(driver, TenantConnection) and driver.is_in_transaction())
    # A savepoint begins with the settings that were applied before it.
    is_applied = not begins and session.info.get(_APPLIED) == tenant
    statements = [tenant.statement()] if tenant is not None and not is_applied else []
    statements += take_early_statements(session)
    session.info[_APPLIED] = tenant
    if begins and isinstance(driver, TenantConnection):
        if driver.first_statement is not None:
            statements.insert(0, driver.first_statement)
        driver.first_statement = ";".join(statements) or None
        return
    for statement in statements:
        connection.exec_driver_sql(statement)


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, _transaction: Any) -> None:
    # The end of a savepoint restores the settings from before it.
    session.info.pop(_APPLIED, None)


def policy_statements(
    table: str, *, column: str = "organization_id", user_column: str | None = None
) -> list[str]:
    """Return the statements with which a migration enables row-level security of a table.

    Rows are visible to the organization that `column` names and, with `user_column`, to that
    user as well.
    Settings are read in sub-selects, so that the planner evaluates them once and not for each row.
    """
    visible = [
        "(SELECT current_setting('carnet.scope', true)) = 'all'",
        f"{column} = (SELECT NULLIF(current_setting('carnet.organization_id', true), '')::bigint)",
    ]
    if user_column:
        visible.append(
            f"{user_column} = (SELECT NULLIF(current_setting('carnet.user_id', true), '')::bigint)"
        )
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY tenant ON {table} USING ({' OR '.join(visible)})",
    ]
