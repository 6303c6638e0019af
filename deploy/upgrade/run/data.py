"""`carnet upgrade data`: copies and converts the rows, and continues where it stopped."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.local.servers import one_failure
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.rows import users as user_rows
from deploy.upgrade.rows import vouchers as voucher_rows
from deploy.upgrade.rows.copy_step import CopyStep
from deploy.upgrade.rows.steps import COPIES
from deploy.upgrade.run import (
    audit_event,
    bookings,
    deferred_indexes,
    maintenance_notice,
    sequences,
    table_copy,
    workspace,
)
from deploy.upgrade.run import plan as plans
from deploy.upgrade.run.default_types import default_types, ensure_default_types
from deploy.upgrade.run.exclusive_lock import acquire_lock, require_services_stopped
from deploy.upgrade.run.plan import Plan
from deploy.upgrade.run.progress import ProgressDisplay
from deploy.upgrade.run.sql_literals import plan_literals, voucher_types_table
from deploy.upgrade.run.summary import summarize
from deploy.upgrade.run.table_copy import CHUNK_ROWS, mark_finished, progress_of
from deploy.upgrade.source import Source, open_source
from deploy.upgrade.targets import (
    Connections,
    Target,
    driver_url,
    owner_connections,
    seeing_everything,
    service_connections,
    signed_in,
)
from services.organizations.events import CATALOGUE as ORGANIZATION_EVENTS
from services.organizations.service.default_organization import ensure_default_organization
from services.vouchers.events import CATALOGUE as VOUCHER_EVENTS
from shared.db import make_engine
from shared.transactions import Transactions

PARALLEL_OPERATIONS = 2
"""How many tables are filled, indexes built or foreign keys checked at the same time. Two of them
use two cores of the target fully."""

_ORGANIZATION = (
    "SELECT id, version, name, slug, address, phone, email, tax_id, logo_url, timezone, currency,"
    " is_active FROM organizations WHERE id = $1"
)


async def upgrade_data(
    target: Target,
    dsn: str,
    system_admin: str | None,
    display: ProgressDisplay,
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> dict[str, Any]:
    """Copy and convert the rows that are not copied yet; return the summary. Safe to repeat.

    Raises UpgradeError.
    """
    async with (
        one_failure(),
        open_source(dsn) as source,
        owner_connections(target) as owners,
        service_connections(target) as targets,
    ):
        await acquire_lock(targets, owners)
        if not await plans.is_finished(targets["organizations"]):
            await require_services_stopped(targets)
        await workspace.create_tables(owners)
        plan = await _load_or_create_plan(source, targets, system_admin)
        if plan.finished_at is None:
            await _DataUpgrade(target, source, targets, owners, display, chunk_rows).run(plan)
        else:
            # An earlier run may have been killed before it removed its notices.
            await maintenance_notice.remove(targets)
            await _require_same_source(plan, source)
        return await summarize(await plans.load_begun(targets["organizations"]), targets)


async def _load_or_create_plan(
    source: Source, targets: Connections, system_admin: str | None
) -> Plan:
    plan = await plans.load(targets["organizations"])
    if plan is None:
        return await plans.create(source, targets, system_admin)
    if plan.rolling_back:
        raise UpgradeError(
            "A rollback was started and is not finished.", "Finish it: carnet upgrade rollback"
        )
    if system_admin and await plans.find_system_admin(source, system_admin) != plan.system_admin_id:
        raise UpgradeError(
            f"This upgrade was started with user {plan.system_admin_id} as system administrator.",
            "Continue it without --system-admin, or roll back first.",
        )
    return plan


async def _require_same_source(plan: Plan, source: Source) -> None:
    for table, highest in (await source.highest_ids()).items():
        if highest > plan.extents[table].last_id:
            raise UpgradeError(
                f"Version 1's table {table} grew to id {highest} after the upgrade began.",
                "Stop version 1, then run: carnet upgrade rollback, and carnet upgrade data.",
            )


@asynccontextmanager
async def transactions_of(url: str, source: str, catalogue: Any) -> AsyncIterator[Transactions]:
    """Open a service's transactions, to call the service's own code."""
    engine: AsyncEngine = make_engine(driver_url(url), pool_size=1)
    try:
        yield Transactions(engine, source, catalogue)
    finally:
        await engine.dispose()


class _DataUpgrade:
    """One run. Each part is skipped if an earlier run has finished it."""

    def __init__(
        self,
        target: Target,
        source: Source,
        targets: Connections,
        owners: Connections,
        display: ProgressDisplay,
        chunk_rows: int,
    ) -> None:
        self._target = target
        self._source = source
        self._targets = targets
        self._owners = owners
        self._display = display
        self._chunk_rows = chunk_rows
        self._slots = asyncio.Semaphore(PARALLEL_OPERATIONS)

    async def run(self, plan: Plan) -> None:
        await _require_same_source(plan, self._source)
        await maintenance_notice.publish(maintenance_notice.UPGRADING, self._targets)
        plan = await self.ensure_organization(plan)
        await plans.store_everywhere(plan, self._targets)
        await sequences.reserve_ids(plan, self._owners)
        await self.copy_organization(plan)
        await self.ensure_voucher_types(plan)
        await self.find_equal_addresses()
        await deferred_indexes.defer(self._owners)
        await workspace.create_staging(self._owners)
        await self.fill_tables(plan)
        await self.convert_bookings(plan)
        await self.restore_foreign_keys()
        await self.grant_permissions(plan)
        await self.finish(plan)

    async def ensure_organization(self, plan: Plan) -> Plan:
        """Find or create the organization that receives all rows.

        If the run is killed before the plan is stored, the organization stays, as after a first
        start of version 2.
        """
        if plan.organization_id is not None:
            return plan
        url = self._target.service("organizations")
        async with transactions_of(url, "carnet/organizations", ORGANIZATION_EVENTS) as units:
            organization_id = await ensure_default_organization(units)
        row = await self.get_organization(organization_id)
        await self._source.require_timezone(row["timezone"])
        return await plans.with_organization(
            plan, self._targets["organizations"], organization_id, row["timezone"]
        )

    async def get_organization(self, organization_id: int | None) -> Any:
        async with seeing_everything(self._targets["organizations"]):
            return await self._targets["organizations"].fetchrow(_ORGANIZATION, organization_id)

    async def copy_organization(self, plan: Plan) -> None:
        row = await self.get_organization(plan.organization_id)
        values = (row["id"], row["slug"], row["version"], row["is_active"])
        await self._targets["identity"].execute(user_rows.ORGANIZATION_COPY, *values)
        await self._targets["vouchers"].execute(voucher_rows.ORGANIZATION_COPY, *row)

    async def ensure_voucher_types(self, plan: Plan) -> None:
        assert plan.organization_id is not None
        url = self._target.service("vouchers")
        async with transactions_of(url, "carnet/vouchers", VOUCHER_EVENTS) as units:
            await ensure_default_types(units, plan.organization_id)

    async def find_equal_addresses(self) -> None:
        """Record the addresses that are equal except for case, before any user is written."""
        identity = self._owners["identity"]
        if (await progress_of(identity, "emails")).finished:
            return
        await workspace.create_emails_table(self._owners)
        async with seeing_everything(identity):
            await table_copy.stream_rows(
                self._source.connection,
                user_rows.EMAILS,
                (),
                identity,
                "upgrade_emails",
                workspace.EMAILS_COLUMNS,
            )
            conflict = await identity.fetchval(user_rows.TAKEN_EMAILS)
            if conflict is not None:
                raise UpgradeError(
                    f"User {conflict} of version 2 has an e-mail address that version 1 uses too.",
                    "Users are never merged. Run carnet upgrade rollback, change that user's"
                    " address in version 2, and start again; or upgrade into a new database.",
                )
            await identity.execute(user_rows.FIND_COLLISIONS)
            await identity.execute("TRUNCATE upgrade_emails")
            await mark_finished(identity, "emails")

    async def fill_tables(self, plan: Plan) -> None:
        """Fill all tables, several at once: while one is copied, another is indexed.

        If foreign keys are in force, fill them one by one, because rows need those they refer to.
        """
        set_aside = [id_ for [id_] in await self._owners["identity"].fetch(user_rows.SET_ASIDE)]
        types = await default_types(self._targets["vouchers"])
        values = {**plan_literals(plan, set_aside), "voucher_types": voucher_types_table(types)}
        fill = partial(self.fill_table, plan=plan, values=values, set_aside=set_aside)
        with self._display:
            if await deferred_indexes.are_tables_independent(self._owners):
                await _run_all([fill(step) for step in COPIES])
            else:
                for step in COPIES:
                    await fill(step)

    async def fill_table(
        self,
        step: CopyStep,
        plan: Plan,
        values: Mapping[str, str],
        set_aside: Sequence[int],
    ) -> None:
        async with (
            self._slots,
            self._source.second_connection() as origin,
            self.owner_of(step.service) as target,
        ):
            progress = await progress_of(target, step.name)
            extent = plan.extents[plans.extent_of(step.name)]
            display = self._display.begin(step.name, extent.rows, progress.rows)
            last_id = plan.extents[step.ids_of].last_id
            await table_copy.copy_table(
                step, values, set_aside, origin, target, last_id, display, size=self._chunk_rows
            )
            await table_copy.record_findings(step, values, origin, target)
            display.end()
        await self.build_keys(step.service, step.table)

    async def convert_bookings(self, plan: Plan) -> None:
        """Convert the copied sessions and reservations, when what they refer to is there."""
        with self._display:
            display = self._display.begin("bookings", 0, 0)
            if not (await progress_of(self._owners["vouchers"], bookings.STEP)).finished:
                await bookings.convert_copied(self._target.owner("vouchers"), plan)
            display.end()
            for table in bookings.TABLES:
                await self.build_keys("vouchers", table)

    async def build_keys(self, service: str, table: str) -> None:
        """Build a table's indexes at the same time, also while other tables are copied."""

        async def build(position: int) -> None:
            async with self._slots, self.owner_of(service) as owner:
                await deferred_indexes.restore_one(owner, position)

        display = self._display.begin(f"keys of {table}", 0, 0)
        async with self.owner_of(service) as target:
            indexes = await deferred_indexes.list_indexes(target, table)
            await _run_all([build(position) for position in indexes])
            await deferred_indexes.restore(target, deferred_indexes.KEY, table)
            # Otherwise the server plans the first queries, as of `verify`, for an empty table.
            await target.execute(f"ANALYZE {table}")
        display.end()

    async def restore_foreign_keys(self) -> None:
        async def check(service: str, table: str) -> None:
            async with self._slots, self.owner_of(service) as owner:
                await deferred_indexes.restore(owner, deferred_indexes.CHECK, table)

        with self._display:
            display = self._display.begin("foreign keys", 0, 0)
            await deferred_indexes.restore_everywhere(self._owners, deferred_indexes.FOREIGN_KEY)
            await _run_all(
                [
                    check(service, table)
                    for service in deferred_indexes.FILLED
                    for table in await deferred_indexes.list_tables_to_check(self._owners[service])
                ]
            )
            await deferred_indexes.restore_everywhere(self._owners, deferred_indexes.OWNER_POLICY)
            display.end()

    @asynccontextmanager
    async def owner_of(self, service: str) -> AsyncIterator[Any]:
        url = self._target.owner(service)
        async with signed_in(url, f"the schema of {service}") as owner:
            yield owner

    async def grant_permissions(self, plan: Plan) -> None:
        identity = self._targets["identity"]
        async with seeing_everything(identity):
            await identity.execute(user_rows.OWNERS_PERMISSIONS, plan.extents["users"].last_id)

    async def finish(self, plan: Plan) -> None:
        summary = await summarize(plan, self._targets)
        await workspace.drop_emails_table(self._owners)
        await workspace.drop_staging(self._owners)
        # Only counts: the audit trail does not store lists of users.
        details = {
            **{name: summary[name] for name in ("source", "rows", "vouchers")},
            "changed": {
                f"{group['table_name']}.{group['rule']}": group["rows"]
                for group in summary["changed"]
            },
        }
        event = audit_event.build_event(plan, "completed", details)
        await audit_event.append(self._target.service("audit"), event)
        await plans.finish(self._targets["organizations"])
        await maintenance_notice.remove(self._targets)


async def _run_all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for part in work:
            group.create_task(part)
