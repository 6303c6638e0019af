"""The queries of version 1's instructions that verify an upgrade, run as `carnet_report`."""

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
        """The value of a query with one number."""
        return int(next(iter(self.rows[0].values())))


async def run_queries(report_url: str) -> list[QueryAnswer]:
    """Run every query as `carnet_report`. Raises UpgradeError if it cannot sign in."""
    async with signed_in(report_url, "the target as carnet_report") as connection:
        return [
            QueryAnswer(query, [_readable(row) for row in await connection.fetch(query)])
            for query in QUERIES
        ]


def _readable(row: Any) -> dict[str, Any]:
    """Return a row with bytes as psql shows them: a "char" of the catalogue, or hexadecimal."""

    def text(value: bytes) -> str:
        return value.decode("ascii") if len(value) == 1 else rf"\x{value.hex()}"

    return {name: text(value) if isinstance(value, bytes) else value for name, value in row.items()}
