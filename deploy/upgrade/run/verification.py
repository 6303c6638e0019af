"""`carnet upgrade verify`: is everything there, and as it must be?"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.local.servers import one_failure
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.rows.expectations import EXPECTATIONS, Expectation
from deploy.upgrade.rows.users import SET_ASIDE
from deploy.upgrade.rows.vouchers import SESSIONS_SPENT
from deploy.upgrade.run import plan as plans
from deploy.upgrade.run import sequences, user_queries
from deploy.upgrade.run.checksums import Comparison, Side, compare
from deploy.upgrade.run.plan import REDEMPTIONS, Plan
from deploy.upgrade.run.sql_literals import plan_literals
from deploy.upgrade.run.user_queries import QueryAnswer
from deploy.upgrade.source import Source, open_source
from deploy.upgrade.targets import (
    COPIED_INTO,
    Connections,
    Target,
    seeing_everything,
    service_connections,
    signed_in,
)

_COPY = (
    "r.id::text",
    "r.name",
    "r.email",
    "r.role",
    "r.organization_id::text",
    "r.is_active::text",
)
_BALANCES = """
    SELECT count(*) AS unequal, min(v.id) AS first FROM vouchers v LEFT JOIN (
        SELECT voucher_id, kind, sum(CASE WHEN reversal_of IS NULL THEN 1 ELSE -1 END) AS spent
        FROM redemptions WHERE voucher_id <= $1 GROUP BY voucher_id, kind
    ) r ON r.voucher_id = v.id AND r.kind = 'regular' LEFT JOIN (
        SELECT voucher_id, kind, sum(CASE WHEN reversal_of IS NULL THEN 1 ELSE -1 END) AS spent
        FROM redemptions WHERE voucher_id <= $1 GROUP BY voucher_id, kind
    ) b ON b.voucher_id = v.id AND b.kind = 'backup'
    WHERE v.id <= $1 AND (coalesce(r.spent, 0) <> v.used_sessions
                          OR coalesce(b.spent, 0) <> v.used_backup_sessions)
"""
_SUMS = "SELECT coalesce(sum(greatest(total_sessions, 0)), 0)::bigint FROM {table}"
_OWNERS = "SELECT count(*) FROM users WHERE role = 'organization_owner' AND id <= $1"
_OWNERS_WITH_ALL = """
    SELECT count(*) FROM permissions p JOIN users u ON u.id = p.user_id
    WHERE u.role = 'organization_owner' AND u.id <= $1 AND p.permission = 'all'
"""
_HOMELESS = "SELECT count(*) FROM users WHERE organization_id IS NULL AND id > $1"
_TRAIL = "SELECT count(*) FROM audit_logs WHERE action = 'migration' AND correlation_id = $1"


@dataclass(frozen=True)
class Check:
    """One thing that must be so."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """Every check, and the answers to the user's queries (None: they could not be asked)."""

    checks: Sequence[Check]
    answers: Sequence[QueryAnswer] | None

    @property
    def passed(self) -> bool:
        """Say whether everything is as it must be."""
        return all(check.passed for check in self.checks)


async def verify(target: Target, dsn: str) -> Verdict:
    """Compare version 1 with what became of it. Raises UpgradeError when there is nothing yet."""
    async with (
        one_failure(),
        open_source(dsn) as source,
        service_connections(target) as targets,
    ):
        plan = await plans.load_begun(targets["organizations"])
        if plan.finished_at is None or plan.rolling_back:
            raise UpgradeError("The upgrade is not finished.", "Go on: carnet upgrade data")
        async with _seeing(targets):
            checks = [check async for check in _checks(plan, source, targets)]
        checks.append(await _trail(plan, target))
        answers = await user_queries.ask(target.report) if target.report else None
        if answers is not None:
            checks += await _user_checks(plan, targets, answers)
        return Verdict(checks, answers)


@asynccontextmanager
async def _seeing(targets: Connections) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for service in COPIED_INTO:
            await stack.enter_async_context(seeing_everything(targets[service]))
        yield


async def _checks(plan: Plan, source: Source, targets: Connections) -> AsyncIterator[Check]:
    set_aside = [row["id"] for row in await targets["identity"].fetch(SET_ASIDE)]
    for expectation in EXPECTATIONS:
        yield await _rows(expectation, plan, source, targets, set_aside)
    yield await _client_copies(plan, targets)
    yield await _sessions_sold(plan, source, targets)
    yield await _sessions_spent(plan, source, targets)
    yield await _balances(plan, targets)
    yield await _owners(plan, targets)
    for table, following in (await sequences.next_ids(targets)).items():
        last = plan.extents[table].last_id
        yield Check(f"next id of {table}", following > last, f"{following}, version 1 had {last}")


async def _rows(
    expectation: Expectation,
    plan: Plan,
    source: Source,
    targets: Connections,
    set_aside: list[int],
) -> Check:
    expected = Side(
        source.connection,
        expectation.source_from,
        _with_values(expectation.source, plan, set_aside),
    )
    found = Side(targets[expectation.service], expectation.target_from, expectation.target)
    table = expectation.table
    last = max(plan.extents[table].last_id, (await source.highest_ids())[table])
    return _of(f"rows of {table}", await compare(expected, found, f"public.{table}", last))


def _with_values(columns: Sequence[str], plan: Plan, set_aside: list[int]) -> tuple[str, ...]:
    values = plan_literals(plan, set_aside)
    return tuple(column.format(**values) for column in columns)


def _of(name: str, compared: Comparison) -> Check:
    detail = f"{compared.found:,} of {compared.expected:,}"
    if compared.differing:
        detail += ", differing ids: " + ", ".join(map(str, compared.differing))
    return Check(name, compared.equal, detail)


async def _client_copies(plan: Plan, targets: Connections) -> Check:
    users = Side(targets["identity"], "users r", _COPY)
    copies = Side(targets["vouchers"], "client_copies r", _COPY)
    last = plan.extents["users"].last_id
    return _of("copies of users in vouchers", await compare(users, copies, "users", last))


async def _sessions_sold(plan: Plan, source: Source, targets: Connections) -> Check:
    expected = await source.connection.fetchval(_SUMS.format(table="public.vouchers"))
    found = await targets["vouchers"].fetchval(
        _SUMS.format(table="vouchers WHERE id <= $1"), plan.extents["vouchers"].last_id
    )
    return Check("sum of sessions sold", expected == found, f"{found:,} of {expected:,}")


async def _sessions_spent(plan: Plan, source: Source, targets: Connections) -> Check:
    expected = await source.connection.fetchval(SESSIONS_SPENT)
    found = await targets["vouchers"].fetchval(
        "SELECT count(*) FROM redemptions WHERE id <= $1", plan.extents[REDEMPTIONS].last_id
    )
    return Check("sum of sessions spent", expected == found, f"{found:,} of {expected:,}")


async def _balances(plan: Plan, targets: Connections) -> Check:
    row = await targets["vouchers"].fetchrow(_BALANCES, plan.extents["vouchers"].last_id)
    detail = f"{row['unequal']:,} unequal"
    if row["unequal"]:
        detail += f", voucher {row['first']} first"
    return Check("balance of every voucher is its redemptions", row["unequal"] == 0, detail)


async def _owners(plan: Plan, targets: Connections) -> Check:
    last = plan.extents["users"].last_id
    owners = await targets["identity"].fetchval(_OWNERS, last)
    allowed = await targets["identity"].fetchval(_OWNERS_WITH_ALL, last)
    return Check("owners with all permissions", owners == allowed, f"{allowed} of {owners}")


async def _trail(plan: Plan, target: Target) -> Check:
    url = target.service("audit")
    async with signed_in(url, "the schema of audit") as audit, seeing_everything(audit):
        found = await audit.fetchval(_TRAIL, str(plan.upgrade_id))
    return Check("migration in the audit trail", found == 1, f"{found} of 1")


async def _user_checks(
    plan: Plan, targets: Connections, answers: Sequence[QueryAnswer]
) -> list[Check]:
    by_query = {answer.query: answer for answer in answers}
    async with seeing_everything(targets["identity"]):
        # An administrator that version 2 made for itself belongs to no organization.
        others = await targets["identity"].fetchval(_HOMELESS, plan.extents["users"].last_id)
    homeless = by_query[user_queries.WITHOUT_ORGANIZATION].number - others
    migration = by_query[user_queries.MIGRATION].rows
    invalid = [
        row["conname"]
        for answer in answers
        for row in answer.rows
        if row.get("convalidated") is False
    ]
    organizations = by_query[user_queries.ORGANIZATIONS].number
    types = by_query[user_queries.VOUCHER_TYPES].number
    return [
        Check("organizations", organizations >= 1, f"{organizations}"),
        Check("users without organization", homeless == 0, f"{homeless} of version 1"),
        Check("voucher types", types >= 3, f"{types}"),
        Check("migration, as carnet_report sees it", len(migration) == 1, _when(migration)),
        Check("constraints in force", not invalid, ", ".join(invalid) or "all"),
    ]


def _when(rows: Sequence[dict[str, Any]]) -> str:
    instant = rows[0]["created_at"] if rows else None
    return instant.isoformat() if isinstance(instant, datetime) else "none"
