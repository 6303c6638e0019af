"""The plan's values as SQL literals, for statements that version 1's server runs.

They are numbers, a date, an instant and a time zone, and never texts of version 1's users.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from deploy.upgrade.run.plan import Plan


@dataclass(frozen=True)
class DefaultType:
    """A default voucher type, with the values by which version 1's vouchers are assigned to it."""

    id: int
    version: int
    total_sessions: int
    in_group: bool


def plan_literals(plan: Plan, set_aside: Collection[int]) -> dict[str, str]:
    """Return the plan's values by their names in the statements."""
    began_at = plan.began_at.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return {
        "organization": str(plan.organization_id),
        "system_admin": str(plan.system_admin_id or 0),
        "set_aside": id_array(set_aside),
        "today": f"date '{plan.today}'",
        "timezone": "'" + str(plan.timezone).replace("'", "''") + "'",
        "began_at": f"timestamp '{began_at}'",
    }


def id_array(numbers: Collection[int]) -> str:
    """Return ids as an SQL array."""
    return f"'{{{','.join(map(str, numbers))}}}'::bigint[]"


def voucher_types_table(types: Sequence[DefaultType]) -> str:
    """Return the default types as an SQL table; of two with equal values, only the older."""
    distinct: dict[tuple[int, bool], DefaultType] = {}
    for each in sorted(types, key=lambda each: each.id):
        distinct.setdefault((each.total_sessions, each.in_group), each)
    rows = ", ".join(
        f"({each.id}::bigint, {each.version}::bigint, {each.total_sessions}, {each.in_group})"
        for each in distinct.values()
    )
    return f"(VALUES {rows})"
