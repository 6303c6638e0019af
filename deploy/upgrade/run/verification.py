"""`carnet upgrade verify`: compares version 2 with version 1."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from deploy.local.servers import one_failure
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.rows.expectations import EXPECTATIONS, Expectation
from deploy.upgrade.rows.users import SET_ASIDE
from deploy.upgrade.rows.vouchers import SESSIONS_SPENT
from deploy.upgrade.run import booking_checks, sequences, user_queries
from deploy.upgrade.run import plan as plans
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

_COPIED_COLUMNS = (
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
_WITHOUT_ORGANIZATION = "SELECT count(*) FROM users WHERE organization_id IS NULL AND id > $1"
_AUDIT_ROWS = "SELECT count(*) FROM audit_logs WHERE action = 'migration' AND correlation_id = $1"


@dataclass(frozen=True)
class Check:
    """One check, whether it passed, and its values."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All checks, and the results of the verification queries (None if they were not run)."""

    checks: Sequence[Check]
    answers: Sequence[QueryAnswer] | None

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


async def verify(target: Target, dsn: str) -> Verdict:
    """Compare version 1 with its copy. Raises UpgradeError if the upgrade is not finished."""
    async with (
        one_failure(),
        open_source(dsn) as source,
        service_connections(target) as targets,
    ):
        plan = await plans.load_begun(targets["organizations"])
        if plan.finished_at is None or plan.rolling_back:
            raise UpgradeError("The upgrade is not finished.", "Finish it: carnet upgrade data")
        verification = _Verification(plan, source, targets)
        async with AsyncExitStack() as stack:
            for service in COPIED_INTO:
                await stack.enter_async_context(seeing_everything(targets[service]))
            checks = [check async for check in verification.run()]
        checks.append(await _check_audit_trail(plan, target))
        answers = await user_queries.run_queries(target.report) if target.report else None
        if answers is not None:
            checks += await _check_answers(plan, targets, answers)
        return Verdict(checks, answers)


class _Verification:
    """The checks that read the services' tables and version 1."""

    def __init__(self, plan: Plan, source: Source, targets: Connections) -> None:
        self._plan = plan
        self._source = source
        self._targets = targets

    async def run(self) -> AsyncIterator[Check]:
        set_aside = [row["id"] for row in await self._targets["identity"].fetch(SET_ASIDE)]
        for expectation in EXPECTATIONS:
            yield await self.rows(expectation, set_aside)
        yield await self.client_copies()
        yield await self.sessions_sold()
        yield await self.sessions_used()
        yield await self.balances()
        for name, (table, query) in booking_checks.CHECKS.items():
            yield await self.equality(name, table, query)
        yield await self.owners()
        for table, next_id in (await sequences.next_ids(self._targets)).items():
            last_id = self._plan.extents[table].last_id
            detail = f"{next_id}, version 1 had {last_id}"
            yield Check(f"next id of {table}", next_id > last_id, detail)

    async def rows(self, expectation: Expectation, set_aside: list[int]) -> Check:
        table = expectation.table
        values = plan_literals(self._plan, set_aside)
        columns = [column.format(**values) for column in expectation.source]
        expected = Side(self._source.connection, expectation.source_from, columns)
        target = self._targets[expectation.service]
        actual = Side(target, expectation.target_from, expectation.target)
        highest_ids = await self._source.highest_ids()
        last_id = max(self._plan.extents[table].last_id, highest_ids[table])
        comparison = await compare(expected, actual, f"public.{table}", last_id)
        return _check_of(f"rows of {table}", comparison)

    async def client_copies(self) -> Check:
        users = Side(self._targets["identity"], "users r", _COPIED_COLUMNS)
        copies = Side(self._targets["vouchers"], "client_copies r", _COPIED_COLUMNS)
        last_id = self._plan.extents["users"].last_id
        comparison = await compare(users, copies, "users", last_id)
        return _check_of("copies of users in vouchers", comparison)

    async def sessions_sold(self) -> Check:
        expected = await self._source.connection.fetchval(_SUMS.format(table="public.vouchers"))
        actual = await self._targets["vouchers"].fetchval(
            _SUMS.format(table="vouchers WHERE id <= $1"), self._plan.extents["vouchers"].last_id
        )
        return Check("sum of sessions sold", expected == actual, f"{actual:,} of {expected:,}")

    async def sessions_used(self) -> Check:
        expected = await self._source.connection.fetchval(SESSIONS_SPENT)
        actual = await self._targets["vouchers"].fetchval(
            "SELECT count(*) FROM redemptions WHERE id <= $1",
            self._plan.extents[REDEMPTIONS].last_id,
        )
        return Check("sum of sessions spent", expected == actual, f"{actual:,} of {expected:,}")

    async def balances(self) -> Check:
        name = "balance of every voucher is its redemptions"
        return await self.equality(name, "vouchers", _BALANCES)

    async def equality(self, name: str, table: str, query: str) -> Check:
        """Run a query that counts the rows of a table of vouchers that are not as they must be."""
        row = await self._targets["vouchers"].fetchrow(query, self._plan.extents[table].last_id)
        detail = f"{row['unequal']:,} unequal"
        if row["unequal"]:
            detail += f", first {table.removesuffix('s')} {row['first']}"
        return Check(name, row["unequal"] == 0, detail)

    async def owners(self) -> Check:
        last_id = self._plan.extents["users"].last_id
        owners = await self._targets["identity"].fetchval(_OWNERS, last_id)
        with_all = await self._targets["identity"].fetchval(_OWNERS_WITH_ALL, last_id)
        detail = f"{with_all} of {owners}"
        return Check("owners with all permissions", owners == with_all, detail)


def _check_of(name: str, comparison: Comparison) -> Check:
    detail = f"{comparison.actual:,} of {comparison.expected:,}"
    if comparison.differing:
        detail += ", differing ids: " + ", ".join(map(str, comparison.differing))
    return Check(name, comparison.equal, detail)


async def _check_audit_trail(plan: Plan, target: Target) -> Check:
    url = target.service("audit")
    async with signed_in(url, "the schema of audit") as audit, seeing_everything(audit):
        count = await audit.fetchval(_AUDIT_ROWS, str(plan.upgrade_id))
    return Check("migration in the audit trail", count == 1, f"{count} of 1")


async def _check_answers(
    plan: Plan, targets: Connections, answers: Sequence[QueryAnswer]
) -> list[Check]:
    by_query = {answer.query: answer for answer in answers}
    async with seeing_everything(targets["identity"]):
        # An administrator that version 2 created itself belongs to no organization.
        later_users = await targets["identity"].fetchval(
            _WITHOUT_ORGANIZATION, plan.extents["users"].last_id
        )
    without_organization = by_query[user_queries.WITHOUT_ORGANIZATION].number - later_users
    migration = by_query[user_queries.MIGRATION].rows
    created_at = migration[0]["created_at"] if migration else None
    time = created_at.isoformat() if isinstance(created_at, datetime) else "none"
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
        Check(
            "users without organization",
            without_organization == 0,
            f"{without_organization} of version 1",
        ),
        Check("voucher types", types >= 3, f"{types}"),
        Check("migration, as carnet_report sees it", len(migration) == 1, time),
        Check("constraints in force", not invalid, ", ".join(invalid) or "all"),
    ]
