"""Counts what users created or changed in version 2 since the upgrade: a rollback loses it."""

from collections.abc import Mapping

from deploy.upgrade.run.plan import REDEMPTIONS, Plan
from deploy.upgrade.targets import Connections, seeing_everything

# For each kind: the service, the table whose extent is $2, and the query. $1 is the organization,
# $3 the moment at which the upgrade began; older rows existed before it.
_COUNTS: Mapping[str, tuple[str, str, str]] = {
    "new users": (
        "identity",
        "users",
        "SELECT count(*) FROM users WHERE organization_id = $1 AND id > $2 AND created_at > $3",
    ),
    "changed users": (
        "identity",
        "users",
        "SELECT count(*) FROM users WHERE organization_id = $1 AND id <= $2"
        " AND (version > 1 OR last_login > $3)",
    ),
    "new dependants": (
        "identity",
        "users",
        "SELECT count(*) FROM dependants WHERE guardian_id <= $2 AND created_at > $3"
        " AND $1::bigint IS NOT NULL",
    ),
    "sign-ins": (
        "identity",
        "users",
        "SELECT count(*) FROM sign_in_sessions s JOIN users u ON u.id = s.user_id"
        " WHERE u.organization_id = $1 AND u.id <= $2 AND s.started_at > $3",
    ),
    "new vouchers": (
        "vouchers",
        "vouchers",
        "SELECT count(*) FROM vouchers WHERE organization_id = $1 AND id > $2 AND created_at > $3",
    ),
    "changed vouchers": (
        "vouchers",
        "vouchers",
        # Rows that the upgrade wrote have version 1, so their age does not matter.
        "SELECT count(*) FROM vouchers WHERE organization_id = $1 AND id <= $2 AND version > 1"
        " AND $3::timestamptz IS NOT NULL",
    ),
    "redemptions": (
        "vouchers",
        REDEMPTIONS,
        "SELECT count(*) FROM redemptions WHERE organization_id = $1 AND id > $2"
        " AND created_at > $3",
    ),
    "new or changed reservations": (
        "vouchers",
        "reservations",
        "SELECT count(*) FROM reservations WHERE organization_id = $1"
        " AND (version > 1 OR id > $2 AND created_at > $3)",
    ),
    "new or changed sessions": (
        "vouchers",
        "sessions",
        "SELECT count(*) FROM sessions WHERE organization_id = $1"
        " AND (version > 1 OR id > $2 AND created_at > $3 AND id NOT IN"
        " (SELECT id FROM upgrade_findings WHERE rule = 'session_added'))",
    ),
    "new or changed classes": (
        "vouchers",
        "therapy_classes",
        "SELECT count(*) FROM therapy_classes WHERE organization_id = $1"
        " AND (version > 1 OR id > $2 AND created_at > $3)",
    ),
    "changed calendars": (
        "vouchers",
        "users",
        # The upgrade and the worker add therapists, which nobody has edited.
        "SELECT (SELECT count(*) FROM resources WHERE organization_id = $1"
        " AND (version > 1 OR (user_id IS NULL OR user_id > $2) AND created_at > $3))"
        " + (SELECT count(*) FROM closures WHERE organization_id = $1)"
        " + (SELECT count(*) FROM session_series WHERE organization_id = $1)"
        " + (SELECT count(*) FROM busy_calendars WHERE organization_id = $1)",
    ),
}


async def count_changes(plan: Plan, targets: Connections) -> dict[str, int]:
    """Return how many rows users created or changed, by kind; kinds without any are left out."""
    counts = {}
    for kind, (service, table, query) in _COUNTS.items():
        async with seeing_everything(targets[service]):
            count = await targets[service].fetchval(
                query, plan.organization_id, plan.extents[table].last_id, plan.began_at
            )
        if count:
            counts[kind] = count
    return counts
