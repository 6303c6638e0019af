"""The plan's values as they stand in statements that version 1's server runs.

Numbers, a date, an instant and a time zone of our own: nothing that a user of version 1 wrote.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from deploy.upgrade.run.plan import Plan


@dataclass(frozen=True)
class DefaultType:
    """A default voucher type: what tells which of version 1's vouchers are of it."""

    id: int
    version: int
    total_sessions: int
    in_group: bool


def plan_literals(plan: Plan, set_aside: Collection[int]) -> dict[str, str]:
    """Return the plan's values by the names by which statements call them."""
    began = plan.began_at.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return {
        "organization": str(plan.organization_id),
        "system_admin": str(plan.system_admin_id or 0),
        "set_aside": id_array(set_aside),
        "today": f"date '{plan.today}'",
        "timezone": "'" + str(plan.timezone).replace("'", "''") + "'",
        "began_at": f"timestamp '{began}'",
    }


def id_array(numbers: Collection[int]) -> str:
    """Return ids as an array."""
    return f"'{{{','.join(map(str, numbers))}}}'::bigint[]"


def voucher_types_table(kinds: Sequence[DefaultType]) -> str:
    """Return the default types as a table: of two that are alike, the older."""
    distinct: dict[tuple[int, bool], DefaultType] = {}
    for kind in sorted(kinds, key=lambda kind: kind.id):
        distinct.setdefault((kind.total_sessions, kind.in_group), kind)
    rows = ", ".join(
        f"({kind.id}::bigint, {kind.version}::bigint, {kind.total_sessions}, {kind.in_group})"
        for kind in distinct.values()
    )
    return f"(VALUES {rows})"
