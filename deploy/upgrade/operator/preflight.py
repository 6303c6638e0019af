"""`carnet upgrade preflight`: shows what the upgrade would do. It only reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from deploy.upgrade.rows.rules import MEANINGS
from deploy.upgrade.rows.soundness import faults
from deploy.upgrade.rows.steps import COPIES
from deploy.upgrade.rows.users import ADDRESS, EMAIL_SET_ASIDE
from deploy.upgrade.rows.vouchers import SESSIONS_SPENT
from deploy.upgrade.run import plan as plans
from deploy.upgrade.run.exclusive_lock import services_running
from deploy.upgrade.run.plan import REDEMPTIONS, Plan
from deploy.upgrade.run.sql_literals import plan_literals
from deploy.upgrade.run.summary import EXAMPLES
from deploy.upgrade.source import APPLICATION, TABLES, Extent, Source, open_source
from deploy.upgrade.targets import Target, service_connections
from shared.text import fold

# Cautious values: measured were 25,000 to 95,000 rows a second on two busy cores, and 1.7 to 1.9
# bytes for each byte of version 1's tables and indexes.
ROWS_A_SECOND = 25_000
GROWTH = 2.2

_COUNTS = {
    "admins who become owners": (
        "SELECT count(*) FROM public.users WHERE role = 'admin' AND id IS DISTINCT FROM $1"
    ),
    "users whose address has not the form that sign-in asks for": (
        "SELECT count(*) FROM public.users WHERE email !~ '^[^@[:space:]]+@[^@[:space:].]+[.]'"
    ),
    "users with nulls that get a value": (
        "SELECT count(*) FROM public.users WHERE is_active IS NULL OR created_at IS NULL"
    ),
    "vouchers without a client, which are cancelled": (
        "SELECT count(*) FROM public.vouchers WHERE client_id IS NULL"
    ),
    "vouchers without a class": (
        "SELECT count(*) FROM public.vouchers WHERE therapy_class_id IS NULL"
    ),
    "vouchers with nulls that get a value": (
        "SELECT count(*) FROM public.vouchers"
        " WHERE used_sessions IS NULL OR is_active IS NULL OR created_at IS NULL"
    ),
    "vouchers with negative sessions": (
        "SELECT count(*) FROM public.vouchers WHERE used_sessions < 0 OR total_sessions < 0"
    ),
    "codes without a voucher": (
        "SELECT count(*) FROM public.voucher_codes WHERE voucher_id IS NULL"
    ),
    "codes with nulls that get a value": (
        "SELECT count(*) FROM public.voucher_codes"
        " WHERE is_spare IS NULL OR is_used IS NULL OR created_at IS NULL"
    ),
}
_ADDRESSES = f"""
    SELECT r.id, {ADDRESS} AS address FROM public.users r ORDER BY r.created_at NULLS LAST, r.id
"""  # noqa: S608
# The copy does not change them, so it has no rule for them.
_CODES_ALIKE = """
    SELECT coalesce(sum(codes - 1), 0)::bigint AS rows,
        (array_agg(first ORDER BY first))[1:$1] AS ids
    FROM (
        SELECT count(*) AS codes, min(id) AS first FROM public.voucher_codes
        GROUP BY lower(code) HAVING count(*) > 1
    ) alike
"""
_CHANGES_BY_RULE = """
    SELECT f.table_name, f.rule, count(*) AS rows,
        (array_agg(f.id ORDER BY f.id))[1:$1] AS ids
    FROM ({query}) AS f (table_name, rule, id, detail) GROUP BY 1, 2 ORDER BY 1, 2
"""
_SAME_ADDRESS = "users whose address is another's but for case"
_SIZE = """
    SELECT sum(pg_total_relation_size(('public.' || name)::regclass))::bigint
    FROM unnest($1::text[]) AS name
"""
_OTHER_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND coalesce(application_name, '') <> $1"
)
_ADMINISTRATOR = (
    "SELECT id, email, coalesce(is_active, true) AS is_active FROM public.users WHERE id = $1"
)


@dataclass(frozen=True)
class PreflightResult:
    """The result of a preflight. `problems` stop the upgrade, `warnings` do not.

    `groups` lists every rule with its rows. `changes` counts some of them under other names, for
    programs that read the JSON document of an earlier version.
    """

    source: str
    server: int
    extents: dict[str, Extent]
    changes: dict[str, int]
    groups: list[dict[str, Any]]
    size: int
    system_admin: str | None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of rows that will be written."""
        return sum(extent.rows for extent in self.extents.values())

    @property
    def seconds(self) -> float:
        """The estimated seconds of copying on two cores."""
        return self.rows / ROWS_A_SECOND

    @property
    def disk(self) -> int:
        """The estimated bytes of version 2 on disk."""
        return int(self.size * GROWTH)

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "source": self.source,
            "server": self.server,
            "rows": {name: extent.rows for name, extent in self.extents.items()},
            "system_admin": self.system_admin,
            "changes": self.changes,
            "found": self.groups,
            "estimate": {"seconds": round(self.seconds), "disk_bytes": self.disk},
            "problems": self.problems,
            "warnings": self.warnings,
        }


async def inspect(dsn: str, target: Target | None, system_admin: str | None) -> PreflightResult:
    """Inspect version 1, and version 2 if a target is passed. Raises UpgradeError."""
    async with open_source(dsn) as source:
        admin_id = await plans.find_system_admin(source, system_admin)
        result = await _inspect_source(source, admin_id)
        result.problems.extend([fault async for fault in faults(source.connection)])
        await _warn(result, source, admin_id)
        if target is not None:
            await _inspect_target(result, target)
        return result


async def _inspect_source(source: Source, admin_id: int | None) -> PreflightResult:
    connection = source.connection
    redemptions = await connection.fetchval(SESSIONS_SPENT)
    changes = {
        name: await connection.fetchval(query, *([admin_id] if "$1" in query else []))
        for name, query in _COUNTS.items()
    }
    set_aside = await _list_equal_addresses(connection)
    changes[_SAME_ADDRESS] = len(set_aside)
    return PreflightResult(
        source=source.name,
        server=source.version,
        extents={**await source.extents(), REDEMPTIONS: Extent(redemptions, redemptions)},
        changes={name: count for name, count in changes.items() if count},
        groups=await _group_changes(connection, admin_id, set_aside),
        size=await connection.fetchval(_SIZE, TABLES),
        system_admin=await connection.fetchval(
            "SELECT email FROM public.users WHERE id = $1", admin_id
        ),
    )


async def _list_equal_addresses(connection: Any) -> list[int]:
    """Return the ids of users whose address equals an older user's in another spelling.

    They are compared here, because version 1's server may be too old for Unicode normalization.
    """
    addresses: set[str] = set()
    ids: list[int] = []
    async for row in connection.cursor(_ADDRESSES, prefetch=10_000):
        address = fold(row["address"])
        if address in addresses:
            ids.append(row["id"])
        addresses.add(address)
    return sorted(ids)


async def _group_changes(
    connection: Any, admin_id: int | None, set_aside: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the rows that will be changed or set aside, by rule, with the first ids of each."""
    plan = Plan(
        upgrade_id=UUID(int=0),
        began_at=datetime.now(UTC),
        source="",
        extents={},
        system_admin_id=admin_id,
        organization_made=False,
        organization_id=0,
        timezone="UTC",
        today=datetime.now(UTC).date(),
    )
    values = plan_literals(plan, ())
    groups: list[dict[str, Any]] = []
    for step in COPIES:
        if step.findings:
            query = _CHANGES_BY_RULE.format(query=step.find(values))
            groups += map(dict, await connection.fetch(query, EXAMPLES))
    alike = await connection.fetchrow(_CODES_ALIKE, EXAMPLES)
    if alike["rows"]:
        groups.append({"table_name": "voucher_codes", "rule": "code_differs_in_case", **alike})
    if set_aside:
        rows = {"rows": len(set_aside), "ids": list(set_aside[:EXAMPLES])}
        groups.append({"table_name": "users", "rule": EMAIL_SET_ASIDE, **rows})
    return [group | {"meaning": MEANINGS[group["rule"]]} for group in groups]


async def _warn(result: PreflightResult, source: Source, admin_id: int | None) -> None:
    sessions = await source.connection.fetchval(_OTHER_SESSIONS, APPLICATION)
    if sessions:
        result.warnings.append(
            f"{sessions} other sessions use version 1's database. Stop version 1 before `data`."
        )
    admin = await source.connection.fetchrow(_ADMINISTRATOR, admin_id)
    if admin is None:
        result.warnings.append("Version 1 has no administrator, so version 2 will have none.")
    elif not admin["is_active"]:
        result.warnings.append(
            f"{admin['email']} would be the system's administrator but is not active. Choose"
            " another one with --system-admin."
        )


async def _inspect_target(result: PreflightResult, target: Target) -> None:
    async with service_connections(target) as targets:
        if not await targets["vouchers"].fetchval("SELECT to_regclass('vouchers') IS NOT NULL"):
            result.warnings.append("Version 2 has no tables yet. Run `carnet upgrade structure`.")
            return
        if await services_running(targets):
            result.warnings.append("Version 2 is running. Stop it before `data`.")
        if await plans.load(targets["organizations"]) is not None:
            result.warnings.append("An upgrade was started here already. `data` continues it.")
            return
        conflicts = await plans.find_id_conflicts(result.extents, targets)
    result.problems.extend(plans.describe_id_conflict(*conflict) for conflict in conflicts.items())
    if conflicts:
        result.problems.append(plans.FRESH_TARGET)
