"""The upgrade's plan: created once and stored in every schema that receives rows."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from uuid_utils import uuid7

from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.rows.soundness import require_sound
from deploy.upgrade.rows.users import TRIMMED
from deploy.upgrade.rows.vouchers import SESSIONS_SPENT
from deploy.upgrade.run import workspace
from deploy.upgrade.source import TABLES, Extent, Source
from deploy.upgrade.targets import COPIED_INTO, Connections, seeing_everything
from services.organizations.service.default_organization import DEFAULT_SLUG

REDEMPTIONS = "redemptions"
HOMES = {"users": "identity", **dict.fromkeys((*TABLES[1:], REDEMPTIONS), "vouchers")}
"""Table → the service that receives its rows."""

_COLUMNS = (
    "upgrade_id, began_at, source, extents, system_admin_id, organization_made,"
    " organization_id, timezone, today, finished_at, rolling_back"
)
_HAS_ORGANIZATION = "SELECT true FROM organizations WHERE slug = $1"

FRESH_TARGET = (
    "Rows keep their ids from version 1, so version 2 must not use them. Its first start already"
    " creates an administrator with id 1. Upgrade into a new target, in this order:\n"
    "        1. Stop version 2.\n"
    "        2. With a data folder: choose one that does not exist yet,\n"
    "             export CARNET_DATA=/path/of/a/new/folder\n"
    "           On your own server: a new database, set in every ..._DATABASE_URL.\n"
    "        3. carnet upgrade run --source ...\n"
    "        4. Start version 2 with the same CARNET_DATA, or the same addresses.\n"
    "        Version 2's present data stays where it is and is not copied."
)
"""The remedy if version 2 was started before its upgrade."""


def describe_id_conflict(table: str, first: int) -> str:
    """Return the problem that version 2 uses ids of version 1 in a table."""
    return f"Version 2 has its own {table} with ids of version 1, for instance id {first}."


@dataclass(frozen=True)
class Plan:
    """The decisions of one upgrade. Ids up to an extent's `last_id` belong to version 1's rows.

    `today` is the day in the organization's zone on which the upgrade began, so that a voucher's
    status does not depend on an interruption before midnight. A stored plan has `today` and
    `organization_id`.
    """

    upgrade_id: UUID
    began_at: datetime
    source: str
    extents: dict[str, Extent]
    system_admin_id: int | None
    organization_made: bool
    organization_id: int | None = None
    timezone: str | None = None
    today: date | None = None
    finished_at: datetime | None = None
    rolling_back: bool = False


def extent_of(table: str) -> str:
    """Return the table whose extent applies to a table: the copies are copies of users."""
    return "users" if table == "client_copies" else table


async def load(connection: Any) -> Plan | None:
    """Return the plan stored in a schema, or None if no upgrade was started there."""
    if not await workspace.exists(connection):
        return None
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM upgrade_plan")  # noqa: S608
    if row is None:
        return None
    values = dict(row)
    extents = json.loads(values.pop("extents"))
    return Plan(**values, extents={name: Extent(**extent) for name, extent in extents.items()})


async def is_finished(connection: Any) -> bool:
    """Return whether an upgrade has finished here."""
    plan = await load(connection)
    return plan is not None and plan.finished_at is not None and not plan.rolling_back


async def load_begun(connection: Any) -> Plan:
    """Return the plan of the started upgrade. Raises UpgradeError if there is none."""
    plan = await load(connection)
    if plan is None:
        raise UpgradeError("No data was upgraded here.", "Start with: carnet upgrade data")
    return plan


async def create(source: Source, targets: Connections, system_admin: str | None) -> Plan:
    """Return a new plan. Raises UpgradeError if the source or the target prevents the upgrade."""
    await require_sound(source.connection)
    extents = await source.extents()
    redemptions = await source.connection.fetchval(SESSIONS_SPENT)
    organizations = targets["organizations"]
    async with seeing_everything(organizations):
        has_default = await organizations.fetchval(_HAS_ORGANIZATION, DEFAULT_SLUG)
    plan = Plan(
        upgrade_id=UUID(str(uuid7())),
        began_at=datetime.now(UTC),
        source=source.name,
        extents={**extents, REDEMPTIONS: Extent(redemptions, redemptions)},
        system_admin_id=await find_system_admin(source, system_admin),
        organization_made=not has_default,
    )
    for conflict in (await find_id_conflicts(plan.extents, targets)).items():
        raise UpgradeError(describe_id_conflict(*conflict), FRESH_TARGET)
    return plan


async def find_system_admin(source: Source, email: str | None) -> int | None:
    """Return the id of the system's administrator: the one with that address, or the lowest id.

    Raises UpgradeError if no administrator of version 1 has that address.
    """
    admin_id: int | None = await source.connection.fetchval(
        "SELECT min(id) FROM public.users r WHERE role = 'admin'"  # noqa: S608
        f" AND ($1::text IS NULL OR lower({TRIMMED}) = lower($1))",
        email,
    )
    if admin_id is None and email is not None:
        raise UpgradeError(
            f"{email} is no administrator of version 1.", "Choose one with --system-admin."
        )
    return admin_id


async def find_id_conflicts(extents: dict[str, Extent], targets: Connections) -> dict[str, int]:
    """Return the tables of version 2 that use ids of version 1, and the first such id of each."""
    conflicts = {}
    for table, service in HOMES.items():
        async with seeing_everything(targets[service]):
            first = await targets[service].fetchval(
                f"SELECT min(id) FROM {table} WHERE id <= $1",  # noqa: S608
                extents[table].last_id,
            )
        if first is not None:
            conflicts[table] = first
    return conflicts


async def store(plan: Plan, connection: Any) -> None:
    """Store a plan in a schema, unless one is stored there."""
    extents = {table: vars(extent) for table, extent in plan.extents.items()}
    await connection.execute(
        f"INSERT INTO upgrade_plan ({_COLUMNS})"  # noqa: S608
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        plan.upgrade_id,
        plan.began_at,
        plan.source,
        json.dumps(extents),
        plan.system_admin_id,
        plan.organization_made,
        plan.organization_id,
        plan.timezone,
        plan.today,
        plan.finished_at,
        plan.rolling_back,
    )


async def with_organization(
    plan: Plan, connection: Any, organization_id: int, timezone: str
) -> Plan:
    """Return the plan with the organization that receives all rows, and today's date there."""
    today = await connection.fetchval(
        "SELECT ($1::timestamptz AT TIME ZONE $2)::date", plan.began_at, timezone
    )
    return replace(plan, organization_id=organization_id, timezone=timezone, today=today)


async def store_everywhere(plan: Plan, targets: Connections) -> None:
    """Store the plan in every schema. Raises UpgradeError if one has another upgrade's plan."""
    for service in COPIED_INTO:
        await store(plan, targets[service])
        existing = await load(targets[service])
        if existing is None or existing.upgrade_id != plan.upgrade_id:
            raise UpgradeError(
                f"The schema of {service} contains rows of another upgrade.",
                "Its database was restored or exchanged. Restore the others to the same state.",
            )


async def finish(connection: Any) -> None:
    """Record that all rows were copied."""
    await connection.execute("UPDATE upgrade_plan SET finished_at = now()")


async def begin_rolling_back(connection: Any) -> None:
    """Record that rows are being removed: from now on only a rollback may continue."""
    await connection.execute("UPDATE upgrade_plan SET rolling_back = true")
