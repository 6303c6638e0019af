"""`carnet upgrade preflight`: what would happen, found out by reading alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from deploy.upgrade.operator.report import EXAMPLES, MEANINGS
from deploy.upgrade.rows.soundness import faults
from deploy.upgrade.rows.steps import COPIES
from deploy.upgrade.rows.users import ADDRESS, EMAIL_SET_ASIDE
from deploy.upgrade.rows.vouchers import SESSIONS_SPENT
from deploy.upgrade.run import plan as plans
from deploy.upgrade.run.exclusive_lock import services_running
from deploy.upgrade.run.plan import REDEMPTIONS, Plan
from deploy.upgrade.run.sql_literals import plan_literals
from deploy.upgrade.source import APPLICATION, TABLES, Extent, Source, open_source
from deploy.upgrade.targets import Target, service_connections
from shared.text import fold

# On the careful side of what was measured on two busy cores: 25,000 to 95,000 rows a second, and
# 1.7 to 1.9 bytes for each byte of version 1's tables and indexes.
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
# Nothing happens to them, so the copy has no rule for them.
_CODES_ALIKE = """
    SELECT coalesce(sum(codes - 1), 0)::bigint AS rows,
        (array_agg(first ORDER BY first))[1:$1] AS ids
    FROM (
        SELECT count(*) AS codes, min(id) AS first FROM public.voucher_codes
        GROUP BY lower(code) HAVING count(*) > 1
    ) alike
"""
_FOUND = """
    SELECT f.table_name, f.rule, count(*) AS rows,
        (array_agg(f.id ORDER BY f.id))[1:$1] AS ids
    FROM ({query}) AS f (table_name, rule, id, detail) GROUP BY 1, 2 ORDER BY 1, 2
"""
_SAME_ADDRESS = "users whose address is another's but for case"
_SIZE = """
    SELECT sum(pg_total_relation_size(('public.' || name)::regclass))::bigint
    FROM unnest($1::text[]) AS name
"""
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND coalesce(application_name, '') <> $1"
)
_ADMIN = "SELECT id, email, coalesce(is_active, true) AS is_active FROM public.users WHERE id = $1"


@dataclass(frozen=True)
class PreflightResult:
    """What a preflight found; `problems` stop the upgrade, `warnings` do not.

    `found` lists every rule with its rows. `changes` counts some of them under other names, for
    programs that read the JSON document of an earlier version.
    """

    source: str
    server: int
    extents: dict[str, Extent]
    changes: dict[str, int]
    found: list[dict[str, Any]]
    size: int
    system_admin: str | None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """All rows that will be written."""
        return sum(extent.rows for extent in self.extents.values())

    @property
    def seconds(self) -> float:
        """An estimate of how long copying takes on two cores."""
        return self.rows / ROWS_A_SECOND

    @property
    def disk(self) -> int:
        """An estimate of the bytes that version 2 will take."""
        return int(self.size * GROWTH)

    def as_json(self) -> dict[str, Any]:
        """Return everything, for machines."""
        return {
            "source": self.source,
            "server": self.server,
            "rows": {name: extent.rows for name, extent in self.extents.items()},
            "system_admin": self.system_admin,
            "changes": self.changes,
            "found": self.found,
            "estimate": {"seconds": round(self.seconds), "disk_bytes": self.disk},
            "problems": self.problems,
            "warnings": self.warnings,
        }


async def inspect(dsn: str, target: Target | None, system_admin: str | None) -> PreflightResult:
    """Look at version 1, and at version 2 if it is there. Raises UpgradeError."""
    async with open_source(dsn) as source:
        admin_id = await plans.find_system_admin(source, system_admin)
        findings = await _of_source(source, admin_id)
        findings.problems.extend([fault async for fault in faults(source.connection)])
        await _warn(findings, source, admin_id)
        if target is not None:
            await _look_at_target(findings, target)
        return findings


async def _of_source(source: Source, admin_id: int | None) -> PreflightResult:
    connection = source.connection
    spent = await connection.fetchval(SESSIONS_SPENT)
    changes = {
        what: await connection.fetchval(query, *([admin_id] if "$1" in query else []))
        for what, query in _COUNTS.items()
    }
    set_aside = await _set_aside(connection)
    changes[_SAME_ADDRESS] = len(set_aside)
    return PreflightResult(
        source=source.name,
        server=source.version,
        extents={**await source.extents(), REDEMPTIONS: Extent(spent, spent)},
        changes={what: count for what, count in changes.items() if count},
        found=await _found(connection, admin_id, set_aside),
        size=await connection.fetchval(_SIZE, TABLES),
        system_admin=await connection.fetchval(
            "SELECT email FROM public.users WHERE id = $1", admin_id
        ),
    )


async def _set_aside(connection: Any) -> list[int]:
    """Return who has an address that an older user has in another spelling, in order of their ids.

    Version 1's server may be too old to know normalization, so it is not asked to compare them.
    """
    seen: set[str] = set()
    ids: list[int] = []
    async for row in connection.cursor(_ADDRESSES, prefetch=10_000):
        address = fold(row["address"])
        if address in seen:
            ids.append(row["id"])
        seen.add(address)
    return sorted(ids)


async def _found(
    connection: Any, admin_id: int | None, set_aside: Sequence[int]
) -> list[dict[str, Any]]:
    """Return what the copy will change or set aside, by rule, with the first ids of each."""
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
    found: list[dict[str, Any]] = []
    for step in COPIES:
        if step.findings:
            query = _FOUND.format(query=step.find(values))
            found += map(dict, await connection.fetch(query, EXAMPLES))
    alike = await connection.fetchrow(_CODES_ALIKE, EXAMPLES)
    if alike["rows"]:
        found.append({"table_name": "voucher_codes", "rule": "code_differs_in_case", **alike})
    if set_aside:
        first = list(set_aside[:EXAMPLES])
        rows = {"rows": len(set_aside), "ids": first}
        found.append({"table_name": "users", "rule": EMAIL_SET_ASIDE, **rows})
    return [group | {"meaning": MEANINGS[group["rule"]]} for group in found]


async def _warn(findings: PreflightResult, source: Source, admin_id: int | None) -> None:
    others = await source.connection.fetchval(_OTHERS, APPLICATION)
    if others:
        findings.warnings.append(
            f"{others} other sessions are on version 1's database: stop version 1 before `data`."
        )
    admin = await source.connection.fetchrow(_ADMIN, admin_id)
    if admin is None:
        findings.warnings.append("Version 1 has no administrator: none will be in version 2.")
    elif not admin["is_active"]:
        findings.warnings.append(
            f"{admin['email']} would be the system's administrator, and is not active:"
            " name another with --system-admin."
        )


async def _look_at_target(findings: PreflightResult, target: Target) -> None:
    async with service_connections(target) as targets:
        if not await targets["vouchers"].fetchval("SELECT to_regclass('vouchers') IS NOT NULL"):
            findings.warnings.append("Version 2 has no tables yet: run `carnet upgrade structure`.")
            return
        if await services_running(targets):
            findings.warnings.append("Version 2 is at work: stop it before `data`.")
        if await plans.load(targets["organizations"]) is not None:
            findings.warnings.append("An upgrade has begun here already: `data` goes on with it.")
            return
        in_the_way = await plans.ids_in_the_way(findings.extents, targets)
    findings.problems.extend(plans.in_the_way(*found) for found in in_the_way.items())
    if in_the_way:
        findings.problems.append(plans.FRESH_TARGET)
