"""The queries by which the user verifies an upgrade, run unchanged as the role for reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.local.system import SERVICES
from deploy.upgrade.targets import signed_in

ORGANIZATIONS = "SELECT COUNT(*) FROM organizations"
WITHOUT_ORGANIZATION = "SELECT COUNT(*) FROM users WHERE organization_id IS NULL"
VOUCHER_TYPES = "SELECT COUNT(*) FROM voucher_types"
MIGRATION = "SELECT * FROM audit_logs WHERE action = 'migration' ORDER BY created_at DESC LIMIT 1"
CONSTRAINTS = (
    "SELECT conname, contype, convalidated FROM pg_constraint"
    " WHERE connamespace = '{schema}'::regnamespace ORDER BY conname"
)

QUERIES = (
    ORGANIZATIONS,
    WITHOUT_ORGANIZATION,
    VOUCHER_TYPES,
    MIGRATION,
    *(CONSTRAINTS.format(schema=schema) for schema in SERVICES),
)


@dataclass(frozen=True)
class QueryAnswer:
    """A query and its rows."""

    query: str
    rows: Sequence[dict[str, Any]]

    @property
    def number(self) -> int:
        """The one value of a count."""
        return int(next(iter(self.rows[0].values())))


def _as_psql_shows(row: Any) -> dict[str, Any]:
    return {
        name: _readable(value) if isinstance(value, bytes) else value for name, value in row.items()
    }


def _readable(value: bytes) -> str:
    """Return a "char", of which the catalogue has many, as it is, and other bytes as hex."""
    return value.decode("ascii") if len(value) == 1 else rf"\x{value.hex()}"


async def ask(report_url: str) -> list[QueryAnswer]:
    """Run every query as the role for reports. Raises UpgradeError when it cannot sign in."""
    async with signed_in(report_url, "the target as carnet_report") as connection:
        return [await _answer(connection, query) for query in QUERIES]


async def _answer(connection: Any, query: str) -> QueryAnswer:
    return QueryAnswer(query, [_as_psql_shows(row) for row in await connection.fetch(query)])
