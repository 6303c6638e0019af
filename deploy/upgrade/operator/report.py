"""What the upgrade did, changed and set aside: for people, and for machines."""

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.upgrade.rows.copy_step import FIRST_DAY, LAST_DAY
from deploy.upgrade.rows.steps import COPIES
from deploy.upgrade.run.plan import Plan
from deploy.upgrade.targets import Connections, seeing_everything

EXAMPLES = 10

MEANINGS: Mapping[str, str] = {
    "email_set_aside": (
        "address equal to an older user's but for case or Unicode form: suffixed, deactivated"
    ),
    "admin_made_owner": "administrator who became an owner of the organization",
    "email_without_its_form": "no address of the usual form: cannot sign in until it is changed",
    "email_trimmed": "address with blanks around it: taken without them",
    "email_missing": "user without an address: given one that receives nothing, deactivated",
    "name_unknown": "name was null: named after the id",
    "name_not_as_entered_today": "name of over 255 characters or with control characters: kept",
    "password_unknown": "password was null: cannot sign in until one is set",
    "role_unknown": "role that version 2 does not know: taken as client",
    "duration_unknown": "duration was null: taken as 0 minutes",
    "capacity_unknown": "capacity was null: taken as 1",
    "status_unknown": "status that version 2 does not know: taken as none",
    "purchase_date_unknown": "day of purchase was null: the creation's, or the upgrade's",
    "last_day_unknown": "last day was null: cancelled",
    "total_sessions_unknown": "sessions sold were null: taken as none",
    "more_used_than_sold": "more sessions used than sold: taken as used up",
    "code_differs_in_case": "code equal to another but for case: kept, told apart as typed",
    "code_unknown": "code was null: made from the id",
    "day_outside_the_calendar": f"day before {FIRST_DAY} or after {LAST_DAY}: that day",
    "use_outside_the_calendar": f"use before {FIRST_DAY} or after {LAST_DAY}: that day",
    "date_outside_the_calendar": f"date before {FIRST_DAY} or after {LAST_DAY}: that day",
    "date_unknown": "date was null: the time of creation, or of the upgrade",
    "time_outside_the_calendar": (
        f"creation or change before {FIRST_DAY} or after {LAST_DAY}: that day"
    ),
    "id_not_positive": "id below 1: kept, and in lists, but not to be opened by its id",
    "is_active_unknown": "active or not was null: taken as active",
    "created_at_unknown": "time of creation was null: the last change's, or the upgrade's",
    "without_client": "voucher of no client: kept, cancelled",
    "without_class": "voucher for no class: named after version 1, without a type",
    "used_sessions_unknown": "used sessions were null: taken as none",
    "sessions_below_zero": "negative sessions: taken as none",
    "more_codes_used_than_sessions": "more codes used than sessions counted: the count was kept",
    "without_voucher": "code of no voucher: kept, redeems nothing",
    "is_spare_unknown": "spare or not was null: taken as regular",
    "is_used_unknown": "used or not was null: taken as unused",
    "used_date_of_an_unused_code": "unused code with a day of use: the day was dropped",
    "used_on_an_unknown_day": "used code without a day: booked on the day of purchase",
}

_GROUPS = """
    SELECT table_name, rule, count(*) AS rows, (array_agg(id ORDER BY id))[1:$1] AS ids
    FROM upgrade_findings GROUP BY table_name, rule ORDER BY table_name, rule
"""
_FINDINGS = "SELECT table_name, rule, id, detail FROM upgrade_findings ORDER BY 1, 2, 3"
_STATUSES = """
    SELECT status, count(*) AS rows, count(voucher_type_id) AS typed
    FROM vouchers WHERE id <= $1 GROUP BY status ORDER BY status
"""


async def summary(plan: Plan, targets: Connections) -> dict[str, Any]:
    """Return the whole result, with counts and the first ids of what was changed or set aside."""
    steps: dict[str, int] = {}
    groups: list[dict[str, Any]] = []
    for service in ("identity", "vouchers"):
        steps |= dict(await targets[service].fetch("SELECT step, rows FROM upgrade_steps"))
        groups += [dict(row) for row in await targets[service].fetch(_GROUPS, EXAMPLES)]
    return {
        "upgrade_id": str(plan.upgrade_id),
        "source": plan.source,
        "began_at": plan.began_at.isoformat(),
        "organization_id": plan.organization_id,
        "system_admin_id": plan.system_admin_id,
        "rows": {step.name: steps[step.name] for step in COPIES if step.name in steps},
        "vouchers": await _vouchers(plan, targets["vouchers"]),
        "changed": [group | {"meaning": MEANINGS[group["rule"]]} for group in groups],
    }


async def _vouchers(plan: Plan, connection: Any) -> dict[str, int]:
    async with seeing_everything(connection):
        found = await connection.fetch(_STATUSES, plan.extents["vouchers"].last_id)
    by_status = {row["status"]: row["rows"] for row in found}
    return {**by_status, "of a default type": sum(row["typed"] for row in found)}


async def _findings(connection: Any) -> AsyncIterator[dict[str, Any]]:
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(_FINDINGS, prefetch=1000):
            yield {
                "table": row["table_name"],
                "id": row["id"],
                "rule": row["rule"],
                "detail": json.loads(row["detail"]),
            }


async def write(file: Path, told: Mapping[str, Any], targets: Connections) -> None:
    """Write the whole report: the summary, then one line for every row that was changed.

    JSON lines, readable by its owner alone: it names people's addresses.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(json.dumps(told, ensure_ascii=False) + "\n")
        for service in ("identity", "vouchers"):
            async for finding in _findings(targets[service]):
                out.write(json.dumps(finding, ensure_ascii=False) + "\n")


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print a summary for people."""
    rows = ", ".join(f"{count:,} {name}" for name, count in told["rows"].items())
    console.print(f"Upgrade {told['upgrade_id']} of {told['source']}: {rows}")
    vouchers = ", ".join(f"{count:,} {name}" for name, count in told["vouchers"].items())
    console.print(f"Vouchers: {vouchers or 'none'}")
    if not told["changed"]:
        console.print("Every row is as version 1 had it.")
        return
    show_groups("Changed or set aside", told["changed"], console)


def show_groups(title: str, groups: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print kinds of rows that are changed or set aside, with their first ids."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in ("table", "rows", "what", "ids"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for group in groups:
        ids = ", ".join(map(str, group["ids"])) + (" …" if group["rows"] > EXAMPLES else "")
        table.add_row(group["table_name"], f"{group['rows']:,}", group["meaning"], ids)
    console.print(table)
