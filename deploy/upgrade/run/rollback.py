"""`carnet upgrade rollback`: takes away this upgrade's rows, and those alone.

As the schemas' owners: a service may not delete what was sold. It may be interrupted, too.
"""

from collections.abc import Mapping
from typing import Any

from deploy.local.servers import one_failure
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.run import audit_event, deferred_indexes, maintenance_notice, workspace
from deploy.upgrade.run import plan as plans
from deploy.upgrade.run.changes_since import count_changes
from deploy.upgrade.run.exclusive_lock import acquire_lock, require_services_stopped
from deploy.upgrade.run.plan import HOMES, REDEMPTIONS, Plan
from deploy.upgrade.run.progress import ProgressDisplay
from deploy.upgrade.targets import (
    Connections,
    Target,
    owner_connections,
    seeing_everything,
    service_connections,
)

IDS_AT_ONCE = 50_000

_ORDER = (
    "reservations",
    "sessions",
    REDEMPTIONS,
    "voucher_codes",
    "vouchers",
    "therapy_classes",
    "users",
)

# Foreign keys that point at what goes: without an index each deleted row would read a whole table.
_INDEXES: Mapping[str, Mapping[str, str]] = {
    "vouchers": {
        "upgrade_back_1": "reservations (organization_id, voucher_code_id)",
        "upgrade_back_2": "reservations (organization_id, therapy_class_id)",
        "upgrade_back_3": "vouchers (organization_id, therapy_class_id)",
    },
    "identity": {
        "upgrade_back_1": "users (approved_by)",
        "upgrade_back_2": "permissions (granted_by)",
    },
}

# Vouchers sold since, of types that go. $1 organization, $2 last voucher of version 1, $3 whether
# the whole organization goes.
_LATER = """
    SELECT id FROM vouchers WHERE organization_id = $1 AND id > $2
    AND ($3 OR voucher_type_id IN (SELECT id FROM upgrade_voucher_types WHERE made))
"""
# Rows of later days that hang on what goes; there are none unless the rollback is forced.
_HANGING_ON_VOUCHERS = (
    f"DELETE FROM adjustments WHERE organization_id = $1"  # noqa: S608
    f" AND (voucher_id <= $2 OR voucher_id IN ({_LATER}))",
    f"DELETE FROM redemptions WHERE organization_id = $1 AND (voucher_id IN ({_LATER})"  # noqa: S608
    f" OR voucher_id <= $2 AND id > $4)",
    f"DELETE FROM voucher_codes WHERE organization_id = $1 AND voucher_id IN ({_LATER})",  # noqa: S608
    f"DELETE FROM vouchers WHERE id IN ({_LATER})",  # noqa: S608
)
# $1 organization, $2 last user of version 1, $3 whether the whole organization goes.
_HANGING_ON_USERS = (
    "DELETE FROM permissions WHERE organization_id = $1 AND ($3 OR user_id <= $2)",
    "DELETE FROM sign_in_sessions WHERE user_id <= $2",
    "UPDATE users SET approved_by = NULL WHERE approved_by <= $2",
    "UPDATE permissions SET granted_by = NULL WHERE granted_by <= $2",
    "UPDATE users SET organization_id = NULL, is_organization_owner = false,"
    " role = CASE WHEN role = 'admin' THEN role ELSE 'client' END"
    " WHERE $3 AND organization_id = $1 AND id > $2",
)
_UNPUBLISHED = "DELETE FROM outbox WHERE (body::jsonb #>> '{data,organization_id}')::bigint = $1"


async def roll_back(target: Target, told: ProgressDisplay, *, force: bool) -> dict[str, int]:
    """Take this upgrade's rows away again; return how many of each table. Version 1 is untouched.

    Raises UpgradeError when users have worked with version 2 since, unless forced.
    """
    async with (
        one_failure(),
        owner_connections(target) as owners,
        service_connections(target) as targets,
    ):
        await acquire_lock(targets, owners)
        plan = await _plan(targets, owners)
        if not force and not plan.rolling_back:
            _refuse(await count_changes(plan, targets))
        await require_services_stopped(targets)
        # A rollback that was killed as it ended has dropped the tables of some schemas.
        await workspace.make_tables(owners)
        await _announce(plan, targets)
        await plans.begin_rolling_back(targets["organizations"])
        await deferred_indexes.restore_everywhere(
            owners, deferred_indexes.INDEX, deferred_indexes.KEY
        )
        with told:
            removed = await _remove(plan, owners, told)
        await deferred_indexes.restore_everywhere(
            owners,
            deferred_indexes.FOREIGN_KEY,
            deferred_indexes.CHECK,
            deferred_indexes.OWNER_POLICY,
        )
        await audit_event.append(
            target.service("audit"), audit_event.build_event(plan, "rolled_back", removed)
        )
        await workspace.drop_emails(owners)
        await deferred_indexes.drop_lists(owners)
        await workspace.drop_tables(owners)
        return removed


async def _plan(targets: Connections, owners: Connections) -> Plan:
    """Return what is taken back. Raises UpgradeError, and clears the notices, when nothing is."""
    plan = await plans.load(targets["organizations"])
    if plan is None:
        await workspace.drop_unplanned(owners)
    return await plans.load_begun(targets["organizations"])


async def _announce(plan: Plan, targets: Connections) -> None:
    """Let nobody start from here on; a finished upgrade that stays as it is needs no notice."""
    try:
        await maintenance_notice.publish(maintenance_notice.ROLLING_BACK, targets)
    except UpgradeError:
        if plan.finished_at is not None and not plan.rolling_back:
            await maintenance_notice.remove(targets)
        raise


def _refuse(found: dict[str, int]) -> None:
    if found:
        listed = ", ".join(f"{count} {what}" for what, count in found.items())
        raise UpgradeError(
            f"Users have worked with version 2 since: {listed}.",
            "A rollback would lose that. If it may: carnet upgrade rollback --force",
        )


async def _remove(plan: Plan, owners: Connections, told: ProgressDisplay) -> dict[str, int]:
    await _change_indexes(owners, "CREATE INDEX IF NOT EXISTS {name} ON {columns}")
    await _remove_hanging(plan, owners)
    removed = {
        table: await _remove_table(owners[HOMES[table]], table, plan, told) for table in _ORDER
    }
    await _remove_beginnings(plan, owners)
    await _change_indexes(owners, "DROP INDEX IF EXISTS {name}")
    return removed


async def _change_indexes(owners: Connections, statement: str) -> None:
    for service, indexes in _INDEXES.items():
        for name, columns in indexes.items():
            await owners[service].execute(statement.format(name=name, columns=columns))


async def _remove_hanging(plan: Plan, owners: Connections) -> None:
    ids = (plan.organization_id, plan.extents["vouchers"].last_id, plan.organization_made)
    last_redemption = plan.extents[REDEMPTIONS].last_id
    async with seeing_everything(owners["vouchers"]):
        for statement in _HANGING_ON_VOUCHERS:
            more = (last_redemption,) if "$4" in statement else ()
            await owners["vouchers"].execute(statement, *ids, *more)
    ids = (plan.organization_id, plan.extents["users"].last_id, plan.organization_made)
    async with seeing_everything(owners["identity"]):
        for statement in _HANGING_ON_USERS:
            await owners["identity"].execute(*_with_used(statement, ids))


def _with_used(statement: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Number the parameters of a statement anew, for it may not use all of them."""
    used = [n for n in range(1, len(arguments) + 1) if f"${n}" in statement]
    for place, number in enumerate(used, start=1):
        statement = statement.replace(f"${number}", f"${place}")
    return (statement, *(arguments[number - 1] for number in used))


async def _remove_table(owner: Any, table: str, plan: Plan, told: ProgressDisplay) -> int:
    """Delete what the upgrade wrote: ids up to the extent are its own and nobody else's."""
    extent = plan.extents[table]
    counting = told.begin(table, extent.rows, 0)
    removed, first = 0, await _first_id(owner, table, extent.last_id)
    while first is not None:
        async with seeing_everything(owner):
            status = await owner.execute(
                f"DELETE FROM {table} WHERE id BETWEEN $1 AND $2",  # noqa: S608
                first,
                min(first + IDS_AT_ONCE - 1, extent.last_id),
            )
        rows = int(status.rpartition(" ")[2])
        removed += rows
        counting.advance(rows)
        first = await _first_id(owner, table, extent.last_id)
    counting.end()
    return removed


async def _first_id(owner: Any, table: str, last: int) -> int | None:
    async with seeing_everything(owner):
        found: int | None = await owner.fetchval(
            f"SELECT min(id) FROM {table} WHERE id <= $1",  # noqa: S608
            last,
        )
    return found


async def _remove_beginnings(plan: Plan, owners: Connections) -> None:
    """Remove what stood before the first row: types, copies, and the organization if we made it."""
    async with seeing_everything(owners["vouchers"]):
        await _remove_from_vouchers(plan, owners["vouchers"])
    if not plan.organization_made:
        return
    async with seeing_everything(owners["identity"]):
        await owners["identity"].execute(
            "DELETE FROM organization_copies WHERE id = $1", plan.organization_id
        )
    async with seeing_everything(owners["organizations"]):
        organizations = owners["organizations"]
        await organizations.execute(_UNPUBLISHED, plan.organization_id)
        await organizations.execute("DELETE FROM organizations WHERE id = $1", plan.organization_id)


async def _remove_from_vouchers(plan: Plan, owner: Any) -> None:
    await owner.execute(
        "DELETE FROM voucher_types WHERE id IN (SELECT id FROM upgrade_voucher_types WHERE made)"
        " OR $2 AND organization_id = $1",
        plan.organization_id,
        plan.organization_made,
    )
    last_user = plan.extents["users"].last_id
    await owner.execute("DELETE FROM client_copies WHERE id <= $1", last_user)
    if plan.organization_made:
        await owner.execute(_UNPUBLISHED, plan.organization_id)
        await owner.execute("DELETE FROM organization_copies WHERE id = $1", plan.organization_id)
