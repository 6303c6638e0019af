"""Sessions and reservations of version 1 become bookings, copied now or by an earlier upgrade."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from deploy.proof.rehearsal.databases import (
    VersionOne,
    VersionTwo,
    administering,
    drop,
    unique,
    upgraded,
)
from deploy.upgrade.rows.classes import RESERVATIONS, SESSIONS
from deploy.upgrade.rows.copy_step import CopyStep
from deploy.upgrade.rows.rules import BOOKING_MEANINGS
from deploy.upgrade.run import plan as plans
from deploy.upgrade.run.plan import Plan
from deploy.upgrade.run.sql_literals import plan_literals
from deploy.upgrade.run.verification import verify
from deploy.upgrade.targets import driver_url, service_connections
from deploy.upgrade.tests.awkward_bookings import ADDED, DAY, FOUND, ROWS, STATES, VOUCHERS
from shared.migrations import config_of, upgrade
from shared.provisioning import in_database, provision
from shared.testing import PASSWORD

pytestmark = pytest.mark.anyio

PACKAGE = "services.vouchers"
CONVERSION = "0013"

# Rows that an earlier upgrade wrote as this one does, in the order of their references.
SAME = (
    "organization_copies",
    "client_copies",
    "voucher_types",
    "therapy_classes",
    "vouchers",
    "voucher_codes",
    "redemptions",
)
CONVERTED = {
    "therapy_classes": "*",
    "sessions": "*",
    "reservations": "*",
    "vouchers": "id, booked_sessions, used_sessions, version",
    "redemptions": "id, voucher_id, reservation_id, version",
    "resources": "id, organization_id, kind, user_id, is_active, version",
    "occupations": "*",
}
RULES = ", ".join(
    f"'{rule}'" for rule in (*BOOKING_MEANINGS, "capacity_below_one", "duration_outside_a_day")
)


@pytest.fixture
async def older(admin_url: str) -> AsyncIterator[VersionTwo]:
    """The schema of vouchers as it was before the conversion, without rows."""
    database = VersionTwo(in_database(admin_url, name := unique("upgrade_older")), name)
    revision = ScriptDirectory.from_config(config_of(PACKAGE)).get_revision(CONVERSION)
    async with administering(admin_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        await provision(database.admin_url, "vouchers", password=PASSWORD, owner_password=PASSWORD)
    await upgrade(PACKAGE, owner_of(database), str(revision.down_revision))
    yield database
    await drop(admin_url, name)


def owner_of(database: VersionTwo) -> Any:
    return driver_url(database.target.owner("vouchers"))


async def insert(database: VersionTwo, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection = await asyncpg.connect(database.admin_url)
        try:
            await connection.copy_records_to_table(
                table,
                schema_name="vouchers",
                columns=list(rows[0]),
                records=[tuple(row.values()) for row in rows],
            )
        finally:
            await connection.close()


async def fill_as_before(older: VersionTwo, v1: VersionOne, v2: VersionTwo) -> None:
    """Store the rows of version 1 as the upgrades before this one did."""
    for table in SAME:
        rows = await v2.rows(f"SELECT * FROM vouchers.{table} ORDER BY id")
        known = await older.rows(
            "SELECT column_name AS name FROM information_schema.columns"
            " WHERE table_schema = 'vouchers' AND table_name = $1",
            table,
        )
        names = {row["name"] for row in known} - {"reservation_id"}
        await insert(older, table, [{k: v for k, v in row.items() if k in names} for row in rows])
    await older.execute("UPDATE vouchers.vouchers SET booked_sessions = 0")
    async with service_connections(v2.target) as targets:
        plan = await plans.load_begun(targets["organizations"])
    for step in (SESSIONS, RESERVATIONS):
        rows = await extracted(v1, step, plan)
        await insert(older, step.name, [{**row, "version": 1} for row in rows])
    for row in await v1.rows("SELECT id, capacity, duration_minutes FROM therapy_classes"):
        await older.execute(
            f"UPDATE vouchers.therapy_classes SET capacity = {row['capacity']},"
            f" duration_minutes = {row['duration_minutes']} WHERE id = {row['id']}"
        )
    last_id = plan.extents["sessions"].last_id
    await older.execute(f"SELECT setval('vouchers.sessions_id_seq', {last_id + 1}, false)")


async def extracted(v1: VersionOne, step: CopyStep, plan: Plan) -> list[dict[str, Any]]:
    """Return all rows of a table of version 1 as they are copied."""
    connection = await asyncpg.connect(v1.admin_url)
    try:
        query = step.extract(plan_literals(plan, ()))
        rows = await connection.fetch(query, -(2**31), 2**31 - 1)
    finally:
        await connection.close()
    return [dict(zip(step.columns, tuple(row), strict=True)) for row in rows]


async def converted(v2: VersionTwo) -> dict[str, list[dict[str, Any]]]:
    rows = {
        table: await v2.rows(f"SELECT {columns} FROM vouchers.{table} ORDER BY 1, 2, 3")
        for table, columns in CONVERTED.items()
    }
    rows["findings"] = await v2.rows(
        f"SELECT * FROM vouchers.upgrade_findings WHERE rule IN ({RULES}) ORDER BY 1, 2, 3"
    )
    return rows


@pytest.mark.parametrize("awkward", [False, True], ids=["sample", "awkward"])
async def test_both_ways_end_alike(
    v1: VersionOne, v2: VersionTwo, older: VersionTwo, awkward: bool
) -> None:
    if awkward:
        await v1.execute(ROWS)
    await upgraded(v1, v2)
    await fill_as_before(older, v1, v2)
    await upgrade(PACKAGE, owner_of(older))
    expected, actual = await converted(v2), await converted(older)
    for table, rows in expected.items():
        assert actual[table] == rows, table
    assert expected["sessions"]
    assert await older.value("SELECT to_regclass('vouchers.upgrade_sessions') IS NULL")
    events = "SELECT type FROM vouchers.outbox WHERE type LIKE 'vouchers.resource.%'"
    created = [{"type": "vouchers.resource.created.v1"}] * len(expected["resources"])
    assert await older.rows(events) == created == await v2.rows(events)


async def test_an_installation_without_version_1_stays_as_it_is(older: VersionTwo) -> None:
    await upgrade(PACKAGE, owner_of(older))
    assert await older.value("SELECT to_regclass('vouchers.upgrade_findings') IS NULL")


async def test_every_awkward_shape(v1: VersionOne, v2: VersionTwo) -> None:
    await v1.execute(ROWS)
    report = await upgraded(v1, v2, chunk_rows=3)
    verdict = await verify(v2.target, v1.reader)
    assert [check for check in verdict.checks if not check.passed] == []
    rows = await v2.rows("SELECT * FROM vouchers.reservations WHERE id >= 20 ORDER BY id")
    assert {row["id"]: row["status"] for row in rows} == STATES
    assert {row["id"]: row["voucher_id"] for row in rows if row["voucher_id"]} == VOUCHERS
    assert [row["id"] for row in rows if row["redemption_id"]] == [26]
    findings = {
        f"{group['table_name']}.{group['rule']}": group["ids"] for group in report["changed"]
    }
    assert {rule: findings.get(rule) for rule in FOUND} == FOUND
    added = "SELECT count(*), min(id) FROM vouchers.sessions WHERE id > 24"
    assert [tuple(row.values()) for row in await v2.rows(added)] == [(ADDED, 25)]
    assert findings["sessions.session_added"] == list(range(25, 35)), (
        "the report names the first ten"
    )
    booked = await v2.rows(
        "SELECT id, booked_sessions FROM vouchers.vouchers WHERE booked_sessions > 0 ORDER BY id"
    )
    assert [tuple(row.values()) for row in booked] == [(1, 1), (10, 1), (11, 1), (12, 2)]


async def test_sessions_have_places_and_block_their_therapist(
    v1: VersionOne, v2: VersionTwo
) -> None:
    await v1.execute(ROWS)
    await upgraded(v1, v2)
    sessions = {row["id"]: row for row in await v2.rows("SELECT * FROM vouchers.sessions")}
    assert (sessions[20]["capacity"], sessions[20]["seats_taken"]) == (2, 2)
    assert sessions[24]["ends_at"] - sessions[24]["starts_at"] == timedelta(days=1)
    assert sessions[23]["status"] == "scheduled"
    assert sessions[23]["ends_at"] - sessions[23]["starts_at"] == timedelta(hours=1)
    therapists = {row["id"]: row for row in await v2.rows("SELECT * FROM vouchers.resources")}
    assert {row["user_id"]: row["is_active"] for row in therapists.values()} == {3: True, 4: False}
    occupied = await v2.rows("SELECT * FROM vouchers.occupations")
    enforced = {row["session_id"]: row["enforced"] for row in occupied}
    assert (enforced[20], enforced[21], enforced[2]) == (False, False, True)
    assert not enforced.keys() & {22, 23, 24}
    for row in occupied:
        session = sessions[row["session_id"]]
        assert session["resource_ids"] == [row["resource_id"]]
        assert (row["blocked"].lower, row["blocked"].upper) == (
            session["starts_at"],
            session["ends_at"],
        )
    added = [row for id_, row in sessions.items() if id_ > 24]
    assert {row["status"] for row in added if row["seats_taken"] == 0} == {"cancelled"}


async def test_two_places_at_one_instant_without_a_class(v1: VersionOne, v2: VersionTwo) -> None:
    """Nothing shows that they belong together, so that each has a session of its own."""
    await v1.execute(ROWS)
    await upgraded(v1, v2)
    rows = await v2.rows(
        "SELECT session_id, may_overlap, held_for, held_until = starts_at AS until_start"
        " FROM vouchers.reservations WHERE id IN (31, 32) ORDER BY id"
    )
    assert rows[0]["session_id"] != rows[1]["session_id"]
    assert [row["may_overlap"] for row in rows] == [True, True]
    assert [row["held_for"] for row in rows] == [None, "approval"]
    assert rows[1]["until_start"]


async def test_of_two_sessions_the_one_that_takes_place(v1: VersionOne, v2: VersionTwo) -> None:
    await v1.execute(
        f"INSERT INTO sessions (id, therapy_class_id, session_date, status) VALUES"
        f" (30, 3, {DAY}, 'cancelled'), (31, 3, {DAY}, 'scheduled'), (32, 3, {DAY}, 'scheduled')",
        "INSERT INTO reservations (id, client_id, therapy_class_id, session_date, status)"
        f" VALUES (30, 8, 3, {DAY}, 'confirmed')",
    )
    await upgraded(v1, v2)
    [row] = await v2.rows("SELECT session_id, status FROM vouchers.reservations WHERE id = 30")
    assert row == {"session_id": 31, "status": "booked"}
    assert (await verify(v2.target, v1.reader)).passed


async def test_a_session_that_has_begun(v1: VersionOne, v2: VersionTwo) -> None:
    """It can still be marked; a request that nobody answered is over."""
    await v1.execute(
        "INSERT INTO reservations (id, client_id, therapy_class_id, session_date, status) VALUES"
        " (30, 8, 3, now()::timestamp - interval '60 minutes', 'confirmed'),"
        " (31, 8, 3, now()::timestamp - interval '61 minutes', 'pending'),"
        " (32, 8, 3, now()::timestamp - interval '3 hours', 'confirmed')"
    )
    await upgraded(v1, v2)
    rows = await v2.rows("SELECT status FROM vouchers.reservations WHERE id >= 30 ORDER BY id")
    assert [row["status"] for row in rows] == ["booked", "cancelled", "attended"]
    assert (await verify(v2.target, v1.reader)).passed


async def test_the_clock_is_the_organizations(v1: VersionOne, v2: VersionTwo) -> None:
    """In summer, in winter, and twice in the hour that Warsaw's clock shows again."""
    await v2.execute(
        "INSERT INTO organizations.organizations (name, slug, timezone, currency, is_active,"
        " created_at, updated_at, version) VALUES ('Default Organization', 'default-org',"
        " 'Europe/Warsaw', 'PLN', true, now(), now(), 1)"
    )
    await v1.execute(
        "INSERT INTO sessions (id, therapy_class_id, session_date) VALUES"
        " (30, 3, '2024-07-01 08:00'), (31, 3, '2024-01-01 08:00'), (32, 3, '2024-10-27 00:30'),"
        " (33, 3, '2024-10-27 01:30')"
    )
    await upgraded(v1, v2)
    rows = await v2.rows(
        "SELECT timezone, starts_local FROM vouchers.sessions WHERE id >= 30 ORDER BY id"
    )
    assert {row["timezone"] for row in rows} == {"Europe/Warsaw"}
    assert [row["starts_local"].isoformat(" ", "minutes") for row in rows] == [
        "2024-07-01 10:00",
        "2024-01-01 09:00",
        "2024-10-27 02:30",
        "2024-10-27 02:30",
    ]
    assert (await verify(v2.target, v1.reader)).passed


async def test_a_booking_of_version_2_is_respected(
    v1: VersionOne, v2: VersionTwo, older: VersionTwo
) -> None:
    """What users booked before the migration stays enforced; a row of version 1 gives way."""
    await v1.execute(ROWS)
    await upgraded(v1, v2)
    await fill_as_before(older, v1, v2)
    [row] = await v2.rows("SELECT * FROM vouchers.sessions WHERE id = 20")
    organization, starts_at, ends_at = row["organization_id"], row["starts_at"], row["ends_at"]
    values = f"'{starts_at.isoformat()}', '{ends_at.isoformat()}'"
    await older.execute(
        "INSERT INTO vouchers.resources (id, organization_id, kind, user_id, buffer_before_minutes,"
        " buffer_after_minutes, is_active, created_at, updated_at, version)"
        f" VALUES (500, {organization}, 'therapist', 3, 15, 15, true, now(), now(), 1)",
        "INSERT INTO vouchers.sessions (id, organization_id, starts_at, ends_at, timezone,"
        " starts_local, resource_ids, seats_taken, status, created_at, updated_at, version)"
        f" VALUES (900, {organization}, {values}, 'UTC', now(), '{{500}}', 1, 'scheduled',"
        " now(), now(), 1)",
        "INSERT INTO vouchers.occupations (organization_id, session_id, resource_id, blocked)"
        f" VALUES ({organization}, 900, 500, tstzrange({values}))",
        "INSERT INTO vouchers.reservations (id, organization_id, client_id, session_id, starts_at,"
        f" ends_at, status, created_at, updated_at, version) VALUES (900, {organization}, 20, 900,"
        f" {values}, 'booked', now(), now(), 1)",
        "UPDATE vouchers.vouchers SET booked_sessions = 1 WHERE id = 11",
    )
    await upgrade(PACKAGE, owner_of(older))
    enforced = await older.rows(
        "SELECT session_id, enforced, upper(blocked) - lower(blocked) AS length"
        " FROM vouchers.occupations WHERE session_id IN (20, 900) ORDER BY session_id"
    )
    assert [tuple(row.values()) for row in enforced] == [
        (20, False, timedelta(minutes=90)),
        (900, True, timedelta(minutes=60)),
    ]
    rows = await older.rows(
        "SELECT id, may_overlap, voucher_id FROM vouchers.reservations WHERE id IN (20, 900)"
        " ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [(20, True, 10), (900, False, None)]
    assert await older.value("SELECT min(id) FROM vouchers.sessions WHERE id > 900") == 901


async def test_the_migration_may_find_more_rows_than_a_batch(
    v1: VersionOne, v2: VersionTwo, older: VersionTwo
) -> None:
    await v1.execute(
        "INSERT INTO sessions (therapy_class_id, session_date, status)"
        " SELECT 3, timestamp '2023-01-01' + n * interval '1 minute', 'completed'"
        " FROM generate_series(1, 45000) n"
    )
    await upgraded(v1, v2)
    await fill_as_before(older, v1, v2)
    await upgrade(PACKAGE, owner_of(older))
    shown = "starts_local = starts_at AT TIME ZONE timezone"
    count = f"SELECT count(*) FROM vouchers.sessions WHERE {shown}"
    assert await older.value(count) == await v2.value(count) == 45003
    began = datetime(2023, 1, 1, 0, 1, tzinfo=UTC)
    assert await older.value("SELECT min(starts_at) FROM vouchers.sessions") == began
