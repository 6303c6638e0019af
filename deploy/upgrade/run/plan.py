"""The upgrade's plan: made once, kept in every schema that gets rows, followed to the end."""

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
from services.organizations.bootstrap import DEFAULT_SLUG

REDEMPTIONS = "redemptions"
HOMES = {"users": "identity", **dict.fromkeys((*TABLES[1:], REDEMPTIONS), "vouchers")}
"""Table → the service that gets its rows."""

_COLUMNS = (
    "upgrade_id, began_at, source, extents, system_admin_id, organization_made,"
    " organization_id, timezone, today, finished_at, rolling_back"
)


FRESH_TARGET = (
    "Version 1's clients hold its ids, so they must be free. A first start already makes an"
    " administrator with id 1. Upgrade into a fresh target, in this order:\n"
    "        1. Stop version 2.\n"
    "        2. In a data folder: choose one that does not exist yet,\n"
    "             export CARNET_DATA=/path/of/a/new/folder\n"
    "           On a server of your own: a new database, named by every ..._DATABASE_URL.\n"
    "        3. carnet upgrade run --source ...\n"
    "        4. Start version 2 with the same CARNET_DATA, or the same addresses.\n"
    "        What version 2 has now stays where it is, and is not carried over."
)
"""What to do when version 2 was started before its upgrade."""


def in_the_way(table: str, first: int) -> str:
    """Return what is wrong when version 2 uses ids of version 1."""
    return f"Version 2 has {table} of its own under ids of version 1, {first} among them."


@dataclass(frozen=True)
class Plan:
    """What one upgrade does. Ids up to an extent's `last_id` are version 1's, and nobody else's.

    `today` is the day in the organization's zone on which the upgrade began: a voucher's status
    must not depend on whether the upgrade was interrupted before midnight. A plan that is kept
    knows it, and the organization.
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
    """Return by what a table's extent is known: the copies are of users."""
    return "users" if table == "client_copies" else table


async def load(connection: Any) -> Plan | None:
    """Return the plan that a schema holds, or None when no upgrade has begun there."""
    if not await workspace.exists(connection):
        return None
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM upgrade_plan")  # noqa: S608
    if row is None:
        return None
    values = dict(row)
    kept = json.loads(values.pop("extents"))
    extents = {table: Extent(**extent) for table, extent in kept.items()}
    return Plan(**values, extents=extents)


async def is_finished(connection: Any) -> bool:
    """Say whether an upgrade was made here, to its end."""
    plan = await load(connection)
    return plan is not None and plan.finished_at is not None and not plan.rolling_back


async def load_begun(connection: Any) -> Plan:
    """Return the plan of an upgrade that has begun. Raises UpgradeError when none has."""
    plan = await load(connection)
    if plan is None:
        raise UpgradeError("No data was upgraded here.", "Begin with: carnet upgrade data")
    return plan


async def make(source: Source, targets: Connections, system_admin: str | None) -> Plan:
    """Decide what this upgrade does. Raises UpgradeError when the target is in its way."""
    await require_sound(source.connection)
    extents = await source.extents()
    spent = await source.connection.fetchval(SESSIONS_SPENT)
    plan = Plan(
        upgrade_id=UUID(str(uuid7())),
        began_at=datetime.now(UTC),
        source=source.name,
        extents={**extents, REDEMPTIONS: Extent(spent, spent)},
        system_admin_id=await find_system_admin(source, system_admin),
        organization_made=not await _has_default_organization(targets["organizations"]),
    )
    for table, first in (await ids_in_the_way(plan.extents, targets)).items():
        raise UpgradeError(
            in_the_way(table, first),
            FRESH_TARGET,
        )
    return plan


async def find_system_admin(source: Source, email: str | None) -> int | None:
    """Return who stays administrator of the system: the one named, else the one of lowest id.

    Raises UpgradeError when no administrator of version 1 has that address.
    """
    found: int | None = await source.connection.fetchval(
        "SELECT min(id) FROM public.users r WHERE role = 'admin'"  # noqa: S608
        f" AND ($1::text IS NULL OR lower({TRIMMED}) = lower($1))",
        email,
    )
    if found is None and email is not None:
        raise UpgradeError(
            f"{email} is no administrator of version 1.", "Name one with --system-admin."
        )
    return found


async def ids_in_the_way(extents: dict[str, Extent], targets: Connections) -> dict[str, int]:
    """Return the tables of version 2 that use ids of version 1, and the first such id of each."""
    found = {}
    for table, service in HOMES.items():
        async with seeing_everything(targets[service]):
            first = await targets[service].fetchval(
                f"SELECT min(id) FROM {table} WHERE id <= $1",  # noqa: S608
                extents[table].last_id,
            )
        if first is not None:
            found[table] = first
    return found


async def _has_default_organization(connection: Any) -> bool:
    async with seeing_everything(connection):
        return bool(
            await connection.fetchval("SELECT 1 FROM organizations WHERE slug = $1", DEFAULT_SLUG)
        )


async def keep(plan: Plan, connection: Any) -> None:
    """Write a plan into a schema, unless it is there."""
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


async def locate(plan: Plan, connection: Any, organization_id: int, timezone: str) -> Plan:
    """Return a plan that knows which organization gets everything, and what day it is there."""
    today = await connection.fetchval(
        "SELECT ($1::timestamptz AT TIME ZONE $2)::date", plan.began_at, timezone
    )
    return replace(plan, organization_id=organization_id, timezone=timezone, today=today)


async def spread(plan: Plan, targets: Connections) -> None:
    """Keep the plan in every schema. Raises UpgradeError when one holds another upgrade's."""
    for service in COPIED_INTO:
        await keep(plan, targets[service])
        there = await load(targets[service])
        if there is None or there.upgrade_id != plan.upgrade_id:
            raise UpgradeError(
                f"The schema of {service} holds rows of another upgrade.",
                "Its database was restored or exchanged: restore the others to the same state.",
            )


async def finish(connection: Any) -> None:
    """Note that everything was copied."""
    await connection.execute("UPDATE upgrade_plan SET finished_at = now()")


async def begin_rolling_back(connection: Any) -> None:
    """Note that rows are about to go: from here on only a rollback may follow."""
    await connection.execute("UPDATE upgrade_plan SET rolling_back = true")
