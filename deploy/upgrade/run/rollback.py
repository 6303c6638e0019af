"""`carnet upgrade rollback`: removes this upgrade's rows, and only these.

It signs in as the schemas' owners, because a service may not delete sold vouchers. It can be
interrupted and repeated.
"""

from collections.abc import Mapping, Sequence
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

# Reservations are removed before them, because these refer to redemptions and sessions.
_ORDER = (
    "sessions",
    REDEMPTIONS,
    "voucher_codes",
    "vouchers",
    "therapy_classes",
    "users",
)

# For foreign keys to deleted rows: without an index, each deletion would read a whole table.
_INDEXES: Mapping[str, Mapping[str, str]] = {
    "vouchers": {
        "upgrade_back_1": "reservations (organization_id, voucher_code_id)",
        "upgrade_back_2": "reservations (organization_id, therapy_class_id)",
        "upgrade_back_3": "vouchers (organization_id, therapy_class_id)",
        "upgrade_back_4": "redemptions (organization_id, reservation_id)",
    },
    "identity": {
        "upgrade_back_1": "users (approved_by)",
        "upgrade_back_2": "permissions (granted_by)",
    },
}

# Bookings of the organization, with those that users made since; also the therapists that a worker
# or the conversion added. $1 organization, $2 whether the whole organization is deleted, $3 last
# reservation, $4 last session, $5 last user, $6 last class of version 1.
_BEFORE_RESERVATIONS = (
    "DELETE FROM reminders WHERE organization_id = $1",
    "DELETE FROM occupations WHERE organization_id = $1",
    "UPDATE redemptions SET reservation_id = NULL"
    " WHERE organization_id = $1 AND reservation_id IS NOT NULL",
    "DELETE FROM reservations WHERE organization_id = $1 AND id > $3",
)
_AFTER_RESERVATIONS = (
    "DELETE FROM sessions WHERE organization_id = $1 AND id > $4",
    "DELETE FROM session_series WHERE organization_id = $1",
    "DELETE FROM class_voucher_types WHERE organization_id = $1",
    "DELETE FROM calendar_feeds WHERE organization_id = $1 AND ($2 OR user_id <= $5)",
    "DELETE FROM booking_settings WHERE organization_id = $1 AND $2",
    "DELETE FROM therapy_classes WHERE organization_id = $1 AND $2 AND id > $6",
)
_RESOURCES = "SELECT id FROM resources WHERE organization_id = $1 AND ($2 OR user_id <= $5)"
_AFTER_CLASSES = (
    f"DELETE FROM resource_voucher_types WHERE organization_id = $1"  # noqa: S608
    f" AND resource_id IN ({_RESOURCES})",
    f"DELETE FROM busy_calendars WHERE organization_id = $1 AND resource_id IN ({_RESOURCES})",  # noqa: S608
    f"DELETE FROM working_hours WHERE organization_id = $1 AND resource_id IN ({_RESOURCES})",  # noqa: S608
    f"DELETE FROM closures WHERE organization_id = $1"  # noqa: S608
    f" AND ($2 AND resource_id IS NULL OR resource_id IN ({_RESOURCES}))",
    f"DELETE FROM resources WHERE id IN ({_RESOURCES})",  # noqa: S608
)
# Vouchers that were sold since and whose types are deleted, and those that received sessions of
# deleted vouchers. $1 organization, $2 last voucher of version 1, $3 whether the whole organization
# is deleted.
_LATER_VOUCHERS = """
    WITH RECURSIVE later AS (
        SELECT id FROM vouchers WHERE organization_id = $1 AND id > $2
        AND ($3 OR received_from_id <= $2
            OR voucher_type_id IN (SELECT id FROM upgrade_voucher_types WHERE made))
        UNION
        SELECT v.id FROM later JOIN vouchers v
            ON v.organization_id = $1 AND v.received_from_id = later.id
    )
    SELECT id FROM later
"""
# Later rows that refer to deleted rows; they exist only if the rollback is forced.
_DEPENDENTS_OF_VOUCHERS = (
    f"DELETE FROM transfer_entries WHERE organization_id = $1"  # noqa: S608
    f" AND (voucher_id <= $2 OR other_voucher_id <= $2"
    f" OR voucher_id IN ({_LATER_VOUCHERS}) OR other_voucher_id IN ({_LATER_VOUCHERS}))",
    f"DELETE FROM refund_quotes WHERE organization_id = $1"  # noqa: S608
    f" AND (voucher_id <= $2 OR voucher_id IN ({_LATER_VOUCHERS}))",
    f"DELETE FROM voucher_disputes WHERE organization_id = $1"  # noqa: S608
    f" AND (voucher_id <= $2 OR voucher_id IN ({_LATER_VOUCHERS}))",
    f"DELETE FROM adjustments WHERE organization_id = $1"  # noqa: S608
    f" AND (voucher_id <= $2 OR voucher_id IN ({_LATER_VOUCHERS}))",
    f"DELETE FROM redemptions WHERE organization_id = $1 AND (voucher_id IN ({_LATER_VOUCHERS})"  # noqa: S608
    f" OR voucher_id <= $2 AND id > $4)",
    f"DELETE FROM voucher_codes WHERE organization_id = $1 AND voucher_id IN ({_LATER_VOUCHERS})",  # noqa: S608
    f"DELETE FROM vouchers WHERE id IN ({_LATER_VOUCHERS})",  # noqa: S608
)
# $1 organization, $2 last user of version 1, $3 whether the whole organization is deleted.
_DEPENDENTS_OF_USERS = (
    "DELETE FROM permissions WHERE organization_id = $1 AND ($3 OR user_id <= $2)",
    "DELETE FROM sign_in_sessions WHERE user_id <= $2",
    "DELETE FROM account_links WHERE user_id <= $2",
    "DELETE FROM dependants WHERE guardian_id <= $2",
    "UPDATE dependants SET organization_id = NULL WHERE $3 AND organization_id = $1",
    "DELETE FROM sign_in_challenges WHERE user_id <= $2",
    "DELETE FROM recovery_codes WHERE user_id <= $2",
    "DELETE FROM second_factors WHERE user_id <= $2",
    "UPDATE users SET approved_by = NULL WHERE approved_by <= $2",
    "UPDATE permissions SET granted_by = NULL WHERE granted_by <= $2",
    "UPDATE users SET organization_id = NULL, is_organization_owner = false,"
    " role = CASE WHEN role = 'admin' THEN role ELSE 'client' END"
    " WHERE $3 AND organization_id = $1 AND id > $2",
)
_UNPUBLISHED = "DELETE FROM outbox WHERE (body::jsonb #>> '{data,organization_id}')::bigint = $1"


async def roll_back(target: Target, display: ProgressDisplay, *, force: bool) -> dict[str, int]:
    """Remove this upgrade's rows; return their number by table. Version 1 does not change.

    Raises UpgradeError if users have worked with version 2 since, unless forced.
    """
    async with (
        one_failure(),
        owner_connections(target) as owners,
        service_connections(target) as targets,
    ):
        await acquire_lock(targets, owners)
        if await plans.load(targets["organizations"]) is None:
            await workspace.drop_unplanned(owners)
        plan = await plans.load_begun(targets["organizations"])
        if not (force or plan.rolling_back) and (changes := await count_changes(plan, targets)):
            counts = ", ".join(f"{count} {kind}" for kind, count in changes.items())
            raise UpgradeError(
                f"Users have worked with version 2 since: {counts}.",
                "A rollback deletes this. To do it nevertheless: carnet upgrade rollback --force",
            )
        await require_services_stopped(targets)
        # A rollback that was killed near its end has dropped the tables of some schemas.
        await workspace.create_tables(owners)
        await _publish_notice(plan, targets)
        await plans.begin_rolling_back(targets["organizations"])
        await deferred_indexes.restore_everywhere(
            owners, deferred_indexes.INDEX, deferred_indexes.KEY
        )
        with display:
            removed_rows = await _remove_rows(plan, owners, display)
        await deferred_indexes.restore_everywhere(
            owners,
            deferred_indexes.FOREIGN_KEY,
            deferred_indexes.CHECK,
            deferred_indexes.OWNER_POLICY,
        )
        await audit_event.append(
            target.service("audit"), audit_event.build_event(plan, "rolled_back", removed_rows)
        )
        await workspace.drop_emails_table(owners)
        await workspace.drop_staging(owners)
        await deferred_indexes.drop_lists(owners)
        await workspace.drop_tables(owners)
        return removed_rows


async def _publish_notice(plan: Plan, targets: Connections) -> None:
    """Prevent services from starting. If one runs, leave a finished upgrade without a notice."""
    try:
        await maintenance_notice.publish(maintenance_notice.ROLLING_BACK, targets)
    except UpgradeError:
        if plan.finished_at is not None and not plan.rolling_back:
            await maintenance_notice.remove(targets)
        raise


async def _remove_rows(plan: Plan, owners: Connections, display: ProgressDisplay) -> dict[str, int]:
    await _execute_for_indexes(owners, "CREATE INDEX IF NOT EXISTS {name} ON {columns}")
    vouchers = owners["vouchers"]
    await _remove_bookings(plan, vouchers, _BEFORE_RESERVATIONS)
    removed_rows = {"reservations": await _empty_table(vouchers, "reservations", plan, display)}
    await _remove_bookings(plan, vouchers, _AFTER_RESERVATIONS)
    await _remove_dependents(plan, owners)
    for table in _ORDER:
        removed_rows[table] = await _empty_table(owners[HOMES[table]], table, plan, display)
    await _remove_bookings(plan, vouchers, _AFTER_CLASSES)
    async with seeing_everything(vouchers):
        await _remove_voucher_types(plan, vouchers)
    if plan.organization_made:
        await _remove_organization(plan, owners)
    await _execute_for_indexes(owners, "DROP INDEX IF EXISTS {name}")
    return removed_rows


async def _execute_for_indexes(owners: Connections, statement: str) -> None:
    for service, indexes in _INDEXES.items():
        for name, columns in indexes.items():
            await owners[service].execute(statement.format(name=name, columns=columns))


async def _remove_bookings(plan: Plan, owner: Any, statements: Sequence[str]) -> None:
    last_ids = (
        plan.extents[table].last_id
        for table in ("reservations", "sessions", "users", "therapy_classes")
    )
    arguments = (plan.organization_id, plan.organization_made, *last_ids)
    async with seeing_everything(owner):
        for statement in statements:
            await owner.execute(*_renumber(statement, arguments))


async def _remove_dependents(plan: Plan, owners: Connections) -> None:
    ids = (plan.organization_id, plan.extents["vouchers"].last_id, plan.organization_made)
    last_redemption = plan.extents[REDEMPTIONS].last_id
    async with seeing_everything(owners["vouchers"]):
        for statement in _DEPENDENTS_OF_VOUCHERS:
            more = (last_redemption,) if "$4" in statement else ()
            await owners["vouchers"].execute(statement, *ids, *more)
    ids = (plan.organization_id, plan.extents["users"].last_id, plan.organization_made)
    async with seeing_everything(owners["identity"]):
        for statement in _DEPENDENTS_OF_USERS:
            await owners["identity"].execute(*_renumber(statement, ids))


def _renumber(statement: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a statement with consecutive parameters, and the arguments that it uses."""
    numbers = [n for n in range(1, len(arguments) + 1) if f"${n}" in statement]
    for position, number in enumerate(numbers, start=1):
        statement = statement.replace(f"${number}", f"${position}")
    return (statement, *(arguments[number - 1] for number in numbers))


async def _empty_table(owner: Any, table: str, plan: Plan, display: ProgressDisplay) -> int:
    """Delete the rows of the upgrade: only it wrote rows with ids up to the extent."""
    extent = plan.extents[table]
    progress = display.begin(table, extent.rows, 0)
    total, first = 0, await _first_id(owner, table, extent.last_id)
    while first is not None:
        async with seeing_everything(owner):
            status = await owner.execute(
                f"DELETE FROM {table} WHERE id BETWEEN $1 AND $2",  # noqa: S608
                first,
                min(first + IDS_AT_ONCE - 1, extent.last_id),
            )
        rows = int(status.rpartition(" ")[2])
        total += rows
        progress.advance(rows)
        first = await _first_id(owner, table, extent.last_id)
    progress.end()
    return total


async def _first_id(owner: Any, table: str, last: int) -> int | None:
    async with seeing_everything(owner):
        first: int | None = await owner.fetchval(
            f"SELECT min(id) FROM {table} WHERE id <= $1",  # noqa: S608
            last,
        )
    return first


async def _remove_organization(plan: Plan, owners: Connections) -> None:
    """Remove the organization that the upgrade created, with its copies and events."""
    async with seeing_everything(owners["vouchers"]):
        vouchers = owners["vouchers"]
        await vouchers.execute(_UNPUBLISHED, plan.organization_id)
        await vouchers.execute(
            "DELETE FROM organization_copies WHERE id = $1", plan.organization_id
        )
    async with seeing_everything(owners["identity"]):
        await owners["identity"].execute(
            "DELETE FROM organization_copies WHERE id = $1", plan.organization_id
        )
    async with seeing_everything(owners["organizations"]):
        organizations = owners["organizations"]
        await organizations.execute(_UNPUBLISHED, plan.organization_id)
        await organizations.execute("DELETE FROM organizations WHERE id = $1", plan.organization_id)


async def _remove_voucher_types(plan: Plan, owner: Any) -> None:
    """Remove the voucher types that the upgrade created, and the copies of users."""
    await owner.execute(
        "DELETE FROM voucher_types WHERE id IN (SELECT id FROM upgrade_voucher_types WHERE made)"
        " OR $2 AND organization_id = $1",
        plan.organization_id,
        plan.organization_made,
    )
    last_user = plan.extents["users"].last_id
    await owner.execute(
        "DELETE FROM client_copies WHERE id <= $1 OR guardian_id <= $1",
        last_user,
    )
