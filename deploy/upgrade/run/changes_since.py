"""What users have made or changed in version 2 since the upgrade: what a rollback would lose."""

from collections.abc import Mapping

from deploy.upgrade.run.plan import REDEMPTIONS, Plan
from deploy.upgrade.targets import Connections, seeing_everything

# Of each: the service, the table whose extent is $2, and the count. $1 is the organization, $3 the
# moment at which the upgrade began: rows that are older were there before it.
_SINCE: Mapping[str, tuple[str, str, str]] = {
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
        # A row written by the upgrade has version 1, whenever that was.
        "SELECT count(*) FROM vouchers WHERE organization_id = $1 AND id <= $2 AND version > 1"
        " AND $3::timestamptz IS NOT NULL",
    ),
    "redemptions": (
        "vouchers",
        REDEMPTIONS,
        "SELECT count(*) FROM redemptions WHERE organization_id = $1 AND id > $2"
        " AND created_at > $3",
    ),
}


async def count_changes(plan: Plan, targets: Connections) -> dict[str, int]:
    """Count what users made or changed since; what there is none of is left out."""
    found = {}
    for what, (service, table, query) in _SINCE.items():
        async with seeing_everything(targets[service]):
            count = await targets[service].fetchval(
                query, plan.organization_id, plan.extents[table].last_id, plan.began_at
            )
        if count:
            found[what] = count
    return found
