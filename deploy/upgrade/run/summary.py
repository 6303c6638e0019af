"""The result of the upgrade: the number of rows, and what was changed or set aside."""

from typing import Any

from deploy.upgrade.rows.rules import MEANINGS
from deploy.upgrade.rows.steps import COPIES
from deploy.upgrade.run.plan import Plan
from deploy.upgrade.targets import Connections, seeing_everything

EXAMPLES = 10
"""How many ids of a group of changed rows are listed."""

_GROUPS = """
    SELECT table_name, rule, count(*) AS rows, (array_agg(id ORDER BY id))[1:$1] AS ids
    FROM upgrade_findings GROUP BY table_name, rule ORDER BY table_name, rule
"""
_STATUSES = """
    SELECT status, count(*) AS rows, count(voucher_type_id) AS typed
    FROM vouchers WHERE id <= $1 GROUP BY status ORDER BY status
"""


async def summarize(plan: Plan, targets: Connections) -> dict[str, Any]:
    """Return the whole result, with counts and first ids of the rows changed or set aside."""
    rows_of_steps: dict[str, int] = {}
    groups: list[dict[str, Any]] = []
    for service in ("identity", "vouchers"):
        rows_of_steps |= dict(await targets[service].fetch("SELECT step, rows FROM upgrade_steps"))
        groups += [dict(row) for row in await targets[service].fetch(_GROUPS, EXAMPLES)]
    async with seeing_everything(targets["vouchers"]):
        last_voucher = plan.extents["vouchers"].last_id
        statuses = await targets["vouchers"].fetch(_STATUSES, last_voucher)
    return {
        "upgrade_id": str(plan.upgrade_id),
        "source": plan.source,
        "began_at": plan.began_at.isoformat(),
        "organization_id": plan.organization_id,
        "system_admin_id": plan.system_admin_id,
        "rows": {
            step.name: rows_of_steps[step.name] for step in COPIES if step.name in rows_of_steps
        },
        "vouchers": {
            **{row["status"]: row["rows"] for row in statuses},
            "of a default type": sum(row["typed"] for row in statuses),
        },
        "changed": [group | {"meaning": MEANINGS[group["rule"]]} for group in groups],
    }
