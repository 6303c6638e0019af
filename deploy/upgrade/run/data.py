"""`carnet upgrade data`: copies and converts, and goes on where it stopped."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.local.servers import one_failure
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.operator import report
from deploy.upgrade.rows import users as identity_rows
from deploy.upgrade.rows import vouchers as voucher_rows
from deploy.upgrade.rows.copy_step import CopyStep
from deploy.upgrade.rows.steps import COPIES
from deploy.upgrade.run import (
    audit_event,
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
from services.organizations.bootstrap import ensure_default_organization
from services.organizations.events import CATALOGUE as ORGANIZATION_EVENTS
from services.vouchers.events import CATALOGUE as VOUCHER_EVENTS
from shared.db import make_engine
from shared.transactions import Transactions

AT_ONCE = 2
"""How many tables are filled, or indexes built, or foreign keys checked at once: as many as keep
two cores of the target busy."""

_ORGANIZATION = (
    "SELECT id, version, name, slug, address, phone, email, tax_id, logo_url, timezone, currency,"
    " is_active FROM organizations WHERE id = $1"
)


async def upgrade_data(
    target: Target,
    dsn: str,
    system_admin: str | None,
    told: ProgressDisplay,
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> dict[str, Any]:
    """Copy and convert everything that is not there yet; return the report. Safe to repeat.

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
        await workspace.make_tables(owners)
        plan = await _plan(source, targets, system_admin)
        if plan.finished_at is None:
            await _Upgrade(target, source, targets, owners, told, chunk_rows).follow(plan)
        else:
            await maintenance_notice.remove(
                targets
            )  # an earlier run may have been killed before it did
            await _require_same_source(plan, source)
        return await report.summary(await plans.load_begun(targets["organizations"]), targets)


async def write_report(target: Target, file: Path) -> None:
    """Write the report of a finished upgrade with every row that was changed or set aside."""
    async with service_connections(target) as targets:
        plan = await plans.load_begun(targets["organizations"])
        await report.write(file, await report.summary(plan, targets), targets)


async def _plan(source: Source, targets: Connections, system_admin: str | None) -> Plan:
    plan = await plans.load(targets["organizations"])
    if plan is None:
        return await plans.make(source, targets, system_admin)
    if plan.rolling_back:
        raise UpgradeError(
            "A rollback was begun and not finished.", "Finish it: carnet upgrade rollback"
        )
    if system_admin and await plans.find_system_admin(source, system_admin) != plan.system_admin_id:
        raise UpgradeError(
            f"This upgrade was begun with user {plan.system_admin_id} as system administrator.",
            "Leave --system-admin out to go on with it, or roll back first.",
        )
    return plan


async def _require_same_source(plan: Plan, source: Source) -> None:
    for table, highest in (await source.highest_ids()).items():
        if highest > plan.extents[table].last_id:
            raise UpgradeError(
                f"Version 1's {table} grew up to id {highest} since it was upgraded.",
                "Stop version 1, then: carnet upgrade rollback, and carnet upgrade data again.",
            )


@asynccontextmanager
async def transactions_of(url: str, source: str, catalogue: Any) -> AsyncIterator[Transactions]:
    """Open a service's unit of work, for what its own code must do."""
    engine: AsyncEngine = make_engine(driver_url(url), pool_size=1)
    try:
        yield Transactions(engine, source, catalogue)
    finally:
        await engine.dispose()


class _Upgrade:
    """One run: every part of it is skipped when an earlier run has done it."""

    def __init__(
        self,
        target: Target,
        source: Source,
        targets: Connections,
        owners: Connections,
        told: ProgressDisplay,
        chunk_rows: int,
    ) -> None:
        self._target = target
        self._source = source
        self._targets = targets
        self._owners = owners
        self._told = told
        self._chunk_rows = chunk_rows
        self._places = asyncio.Semaphore(AT_ONCE)

    async def follow(self, plan: Plan) -> None:
        """Do what the plan says and is not done yet."""
        await _require_same_source(plan, self._source)
        await maintenance_notice.publish(maintenance_notice.UPGRADING, self._targets)
        plan = await self._organization(plan)
        await plans.spread(plan, self._targets)
        await sequences.leave_room(plan, self._owners)
        await self._copies_of_organization(plan)
        await self._default_types(plan)
        await self._emails()
        await deferred_indexes.defer(self._owners)
        await self._tables(plan)
        await self._foreign_keys()
        await self._permissions(plan)
        await self._end(plan)

    async def _organization(self, plan: Plan) -> Plan:
        """Find or make the organization that gets everything.

        Killed between this and the keeping of the plan, a run leaves what a first start makes too.
        """
        if plan.organization_id is not None:
            return plan
        url = self._target.service("organizations")
        async with transactions_of(url, "carnet/organizations", ORGANIZATION_EVENTS) as units:
            organization_id = await ensure_default_organization(units)
        row = await self._organization_row(organization_id)
        await self._source.require_timezone(row["timezone"])
        return await plans.locate(
            plan, self._targets["organizations"], organization_id, row["timezone"]
        )

    async def _organization_row(self, organization_id: int | None) -> Any:
        async with seeing_everything(self._targets["organizations"]):
            return await self._targets["organizations"].fetchrow(_ORGANIZATION, organization_id)

    async def _copies_of_organization(self, plan: Plan) -> None:
        row = await self._organization_row(plan.organization_id)
        await self._targets["identity"].execute(
            identity_rows.ORGANIZATION_COPY,
            row["id"],
            row["slug"],
            row["version"],
            row["is_active"],
        )
        await self._targets["vouchers"].execute(voucher_rows.ORGANIZATION_COPY, *row)

    async def _default_types(self, plan: Plan) -> None:
        assert plan.organization_id is not None
        url = self._target.service("vouchers")
        async with transactions_of(url, "carnet/vouchers", VOUCHER_EVENTS) as units:
            await ensure_default_types(units, plan.organization_id)

    async def _emails(self) -> None:
        """Find the addresses that are equal but for case, before any user is written."""
        identity = self._owners["identity"]
        if (await progress_of(identity, "emails")).finished:
            return
        await workspace.make_emails(self._owners)
        async with seeing_everything(identity):
            await table_copy.stream_rows(
                self._source.connection,
                identity_rows.EMAILS,
                (),
                identity,
                "upgrade_emails",
                workspace.EMAILS_COLUMNS,
            )
            await _require_free_addresses(identity)
            await identity.execute(identity_rows.FIND_COLLISIONS)
            await identity.execute("TRUNCATE upgrade_emails")
            await mark_finished(identity, "emails")

    async def _tables(self, plan: Plan) -> None:
        """Fill every table, some at once: one is converted and read while another is indexed.

        Where foreign keys stay in force, one after the other: rows need those they point at.
        """
        set_aside = [id_ for [id_] in await self._owners["identity"].fetch(identity_rows.SET_ASIDE)]
        kinds = await default_types(self._targets["vouchers"])
        values = {**plan_literals(plan, set_aside), "voucher_types": voucher_types_table(kinds)}
        fill = partial(self._table, plan=plan, values=values, set_aside=set_aside)
        with self._told:
            if await deferred_indexes.are_tables_independent(self._owners):
                await _together([fill(step) for step in COPIES])
            else:
                for step in COPIES:
                    await fill(step)

    async def _table(
        self,
        step: CopyStep,
        plan: Plan,
        values: Mapping[str, str],
        set_aside: Sequence[int],
    ) -> None:
        async with (
            self._places,
            self._source.another() as origin,
            self._owner_of(step.service) as target,
        ):
            done = await progress_of(target, step.name)
            extent = plan.extents[plans.extent_of(step.name)]
            counting = self._told.begin(step.name, extent.rows, done.rows)
            last = plan.extents[step.ids_of].last_id
            await table_copy.copy_table(
                step, values, set_aside, origin, target, last, counting, size=self._chunk_rows
            )
            await table_copy.record_findings(step, values, origin, target)
            counting.end()
        await self._keys(step)

    async def _keys(self, step: CopyStep) -> None:
        """Build a table's indexes, side by side with each other and with what others copy."""
        counting = self._told.begin(f"keys of {step.name}", 0, 0)
        async with self._owner_of(step.service) as target:
            indexes = await deferred_indexes.list_indexes(target, step.table)
            await _together([self._index(step, position) for position in indexes])
            await deferred_indexes.restore(target, deferred_indexes.KEY, step.table)
            # Before anybody asks, `verify` first: the server would plan by an empty table's size.
            await target.execute(f"ANALYZE {step.table}")
        counting.end()

    async def _index(self, step: CopyStep, position: int) -> None:
        async with self._places, self._owner_of(step.service) as owner:
            await deferred_indexes.restore_one(owner, position)

    async def _foreign_keys(self) -> None:
        with self._told:
            counting = self._told.begin("foreign keys", 0, 0)
            await deferred_indexes.restore_everywhere(self._owners, deferred_indexes.FOREIGN_KEY)
            await _together(
                [
                    self._check(service, table)
                    for service in deferred_indexes.FILLED
                    for table in await deferred_indexes.list_tables_to_check(self._owners[service])
                ]
            )
            await deferred_indexes.restore_everywhere(self._owners, deferred_indexes.OWNER_POLICY)
            counting.end()

    async def _check(self, service: str, table: str) -> None:
        async with self._places, self._owner_of(service) as owner:
            await deferred_indexes.restore(owner, deferred_indexes.CHECK, table)

    @asynccontextmanager
    async def _owner_of(self, service: str) -> AsyncIterator[Any]:
        url = self._target.owner(service)
        async with signed_in(url, f"the schema of {service}") as owner:
            yield owner

    async def _permissions(self, plan: Plan) -> None:
        identity = self._targets["identity"]
        async with seeing_everything(identity):
            await identity.execute(identity_rows.OWNERS_PERMISSIONS, plan.extents["users"].last_id)

    async def _end(self, plan: Plan) -> None:
        told = await report.summary(plan, self._targets)
        await workspace.drop_emails(self._owners)
        event = audit_event.build_event(plan, "completed", _for_the_trail(told))
        await audit_event.append(self._target.service("audit"), event)
        await plans.finish(self._targets["organizations"])
        await maintenance_notice.remove(self._targets)


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for part in work:
            group.create_task(part)


def _for_the_trail(told: dict[str, Any]) -> dict[str, Any]:
    """Return counts alone: the trail keeps no list of people."""
    return {
        "source": told["source"],
        "rows": told["rows"],
        "vouchers": told["vouchers"],
        "changed": {
            f"{group['table_name']}.{group['rule']}": group["rows"] for group in told["changed"]
        },
    }


async def _require_free_addresses(identity: Any) -> None:
    taken = await identity.fetchval(identity_rows.TAKEN_EMAILS)
    if taken is not None:
        raise UpgradeError(
            f"User {taken} of version 2 has an e-mail address that version 1 uses too.",
            "They are never merged: carnet upgrade rollback, change that user's address in version"
            " 2, and begin again; or upgrade into a fresh database.",
        )
