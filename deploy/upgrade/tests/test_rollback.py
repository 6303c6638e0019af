"""A rollback removes all rows of this upgrade and no others."""

import re
from inspect import getsource
from typing import Any

import pytest

from deploy.proof.rehearsal.databases import VersionOne, VersionTwo, upgraded
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.run import rollback
from deploy.upgrade.run.plan import HOMES
from deploy.upgrade.run.progress import NoProgress
from deploy.upgrade.run.rollback import roll_back
from deploy.upgrade.run.verification import verify

pytestmark = pytest.mark.anyio

TABLES = (
    "organizations.organizations",
    "organizations.outbox",
    "identity.users",
    "identity.permissions",
    "identity.organization_copies",
    "vouchers.client_copies",
    "vouchers.organization_copies",
    "vouchers.voucher_types",
    "vouchers.vouchers",
    "vouchers.voucher_codes",
    "vouchers.redemptions",
    "vouchers.therapy_classes",
    "vouchers.sessions",
    "vouchers.reservations",
    "vouchers.resources",
    "vouchers.occupations",
    "vouchers.outbox",
)
LATER_USER = (
    "INSERT INTO identity.users (id, email, name, password_hash, role, is_organization_owner,"
    " is_active, approved_at, approved_by, created_at, updated_at, version, organization_id)"
    " VALUES (900, 'later@example.org', 'Later', 'h', 'client', false, true, now(), {by}, now(),"
    " now(), 1, {organization})"
)
STRUCTURE = """
    SELECT schemaname || '.' || indexname AS name, indexdef AS definition FROM pg_indexes
    WHERE schemaname IN ('identity', 'organizations', 'vouchers')
    UNION ALL
    SELECT connamespace::regnamespace || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace::regnamespace::text IN ('identity', 'organizations', 'vouchers')
    UNION ALL
    SELECT oid::regclass::text, 'holds its owner: ' || relforcerowsecurity FROM pg_class
    WHERE relrowsecurity
    ORDER BY 1, 2
"""


async def content(v2: VersionTwo) -> dict[str, list[dict[str, Any]]]:
    return {table: await v2.rows(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES}


async def test_what_was_there_before_is_there_again(v1: VersionOne, v2: VersionTwo) -> None:
    await v2.execute(LATER_USER.format(by="NULL", organization="NULL"))
    before, structure = await content(v2), await v2.rows(STRUCTURE)
    await upgraded(v1, v2)
    removed = await roll_back(v2.target, NoProgress(), force=False)
    assert removed["users"] == 8
    assert removed["redemptions"] == 9
    assert await content(v2) == before
    assert await v2.rows(STRUCTURE) == structure


async def test_the_trail_contains_both(v1: VersionOne, v2: VersionTwo) -> None:
    await upgraded(v1, v2)
    await roll_back(v2.target, NoProgress(), force=False)
    told = await v2.rows(
        "SELECT new_values->>'outcome' AS outcome FROM audit.audit_logs"
        " WHERE action = 'migration' ORDER BY id"
    )
    assert [row["outcome"] for row in told] == ["completed", "rolled_back"]


async def test_again_after_a_rollback(v1: VersionOne, v2: VersionTwo) -> None:
    await upgraded(v1, v2)
    await roll_back(v2.target, NoProgress(), force=False)
    await v1.execute("INSERT INTO sessions (session_date) VALUES ('2030-01-01')")
    await upgraded(v1, v2)
    assert (await verify(v2.target, v1.reader)).passed


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("1 new users", LATER_USER.format(by="2", organization="{organization}")),
        ("1 changed users", "UPDATE identity.users SET version = 2 WHERE id = 7"),
        ("1 changed vouchers", "UPDATE vouchers.vouchers SET version = 2 WHERE id = 1"),
        (
            "1 new dependants",
            "INSERT INTO identity.dependants (guardian_id, organization_id, name, is_active,"
            " created_at, updated_at, version)"
            " VALUES (7, {organization}, 'Child', true, now(), now(), 1);"
            "INSERT INTO vouchers.client_copies (id, version, name, role, organization_id,"
            " guardian_id, is_active)"
            " SELECT id, 1, name, 'client', organization_id, guardian_id, true"
            " FROM identity.dependants",
        ),
        (
            "1 redemptions",
            "INSERT INTO vouchers.redemptions (organization_id, voucher_id, kind, session_date,"
            " created_at, updated_at, version)"
            " VALUES ({organization}, 1, 'regular', now(), now(), now(), 1)",
        ),
        (
            "1 sign-ins",
            "INSERT INTO identity.sign_in_sessions (id, user_id, started_at, last_used_at,"
            " expires_at, network) VALUES (gen_random_uuid(), 7, now(), now(), now(), 'n')",
        ),
        (
            "1 new vouchers",
            "INSERT INTO vouchers.vouchers (organization_id, voucher_type_id, name, total_sessions,"
            " backup_sessions, booking_rules, used_sessions, used_backup_sessions, purchase_date,"
            " status, payment_status, created_at, updated_at, version)"
            " SELECT organization_id, id, 'new', 1, 0, '{{}}', 0, 0, now(), 'pending', 'pending',"
            " now(), now(), 1 FROM vouchers.voucher_types LIMIT 1",
        ),
    ],
)
async def test_refused_when_users_worked_with_it_since(
    v1: VersionOne, v2: VersionTwo, what: str, change: str
) -> None:
    before = {table: rows for table, rows in (await content(v2)).items() if table != TABLES[2]}
    told = await upgraded(v1, v2)
    await v2.execute(change.format(organization=told["organization_id"]))
    with pytest.raises(UpgradeError, match=what):
        await roll_back(v2.target, NoProgress(), force=False)
    assert (await v2.value("SELECT count(*) FROM identity.users WHERE id <= 12")) == 8
    await roll_back(v2.target, NoProgress(), force=True)
    after = await content(v2)
    assert {table: rows for table, rows in after.items() if table != TABLES[2]} == before
    assert [row["organization_id"] for row in after["identity.users"]] in ([], [None])


# A deletion is refused while rows refer to what is deleted, unless they are deleted with it.
REFERRING = """
    SELECT DISTINCT relname AS name FROM pg_constraint c JOIN pg_class ON pg_class.oid = conrelid
    WHERE contype = 'f' AND confdeltype = 'a'
    AND c.connamespace IN ('identity'::regnamespace, 'vouchers'::regnamespace)
    AND conrelid <> confrelid ORDER BY 1
"""


async def test_it_removes_what_refers_to_removed_rows(v2: VersionTwo) -> None:
    named = set(re.findall(r"DELETE FROM (\w+)", getsource(rollback))) | set(HOMES)
    assert [row["name"] for row in await v2.rows(REFERRING) if row["name"] not in named] == []


WORKED_ON: dict[str, tuple[str, str | None]] = {
    "a therapist whom the worker added": (
        "INSERT INTO vouchers.resources (organization_id, kind, user_id, buffer_before_minutes,"
        " buffer_after_minutes, is_active, created_at, updated_at, version)"
        " VALUES ({organization}, 'therapist', 4, 0, 0, true, now(), now(), 1)",
        None,
    ),
    "hours": (
        "UPDATE vouchers.resources SET version = 2;"
        "INSERT INTO vouchers.working_hours (organization_id, resource_id, weekday, start_minute,"
        " end_minute) SELECT organization_id, id, 1, 480, 600 FROM vouchers.resources",
        "1 changed calendars",
    ),
    "a session settled": (
        "UPDATE vouchers.reservations SET status = 'attended', version = 2 WHERE id = 2;"
        "UPDATE vouchers.vouchers SET booked_sessions = 0, used_sessions = 4 WHERE id = 1;"
        "INSERT INTO vouchers.redemptions (organization_id, voucher_id, kind, session_date,"
        " reservation_id, created_at, updated_at, version)"
        " VALUES ({organization}, 1, 'regular', now(), 2, now(), now(), 1);"
        "UPDATE vouchers.reservations SET redemption_id ="
        " (SELECT max(id) FROM vouchers.redemptions) WHERE id = 2",
        "1 new or changed reservations",
    ),
    "a session booked": (
        "INSERT INTO vouchers.sessions (organization_id, starts_at, ends_at, timezone,"
        " starts_local, status, created_at, updated_at, version) VALUES ({organization},"
        " '2099-01-01', '2099-01-02', 'UTC', '2099-01-01', 'scheduled', now(), now(), 1);"
        "INSERT INTO vouchers.reservations (organization_id, client_id, voucher_id, session_id,"
        " starts_at, ends_at, status, created_at, updated_at, version) SELECT organization_id, 7,"
        " 1, id, starts_at, ends_at, 'booked', now(), now(), 1 FROM vouchers.sessions"
        " WHERE starts_at = '2099-01-01'",
        "1 new or changed sessions",
    ),
    "a session transferred": (
        "INSERT INTO vouchers.vouchers SELECT (jsonb_populate_record(v, jsonb_build_object("
        "'id', 900, 'client_id', 8, 'received_from_id', 1, 'total_sessions', 1,"
        " 'used_sessions', 0, 'booked_sessions', 0, 'backup_sessions', 0,"
        " 'used_backup_sessions', 0, 'created_at', now()))).*"
        " FROM vouchers.vouchers v WHERE id = 1;"
        "INSERT INTO vouchers.transfer_entries (organization_id, voucher_id, client_id,"
        " other_voucher_id, sessions, reason, made_by, created_at)"
        " VALUES ({organization}, 1, 7, 900, -1, 'Gift', 1, now());"
        "INSERT INTO vouchers.transfer_entries (organization_id, voucher_id, client_id,"
        " other_voucher_id, opposite_id, sessions, reason, made_by, created_at)"
        " SELECT organization_id, 900, 8, 1, id, 1, 'Gift', 1, now()"
        " FROM vouchers.transfer_entries",
        "1 new vouchers",
    ),
    "a link to a new password": (
        "INSERT INTO identity.account_links (token_hash, user_id, purpose, email, created_at,"
        " expires_at) VALUES ('x', 7, 'password_reset', 'x@example.org', now(), now())",
        None,
    ),
    "a busy calendar": (
        "INSERT INTO vouchers.busy_calendars (organization_id, resource_id, host,"
        " encrypted_address, next_read_at, created_at, updated_at, version)"
        " SELECT organization_id, id, 'example.org', 'x', now(), now(), now(), 1"
        " FROM vouchers.resources LIMIT 1",
        "1 changed calendars",
    ),
}


@pytest.mark.parametrize("what", WORKED_ON)
async def test_bookings_since_are_removed(v1: VersionOne, v2: VersionTwo, what: str) -> None:
    before = await content(v2)
    told = await upgraded(v1, v2)
    change, refused = WORKED_ON[what]
    await v2.execute(change.format(organization=told["organization_id"]))
    if refused:
        with pytest.raises(UpgradeError, match=refused):
            await roll_back(v2.target, NoProgress(), force=False)
    await roll_back(v2.target, NoProgress(), force=refused is not None)
    assert await content(v2) == before
    assert await v2.value("SELECT count(*) FROM vouchers.working_hours") == 0


async def test_an_interrupted_rollback_must_be_finished(v1: VersionOne, v2: VersionTwo) -> None:
    await upgraded(v1, v2)
    await v2.execute(
        "UPDATE organizations.upgrade_plan SET rolling_back = true",
        "UPDATE vouchers.redemptions SET reservation_id = NULL WHERE reservation_id = 1",
        "DELETE FROM vouchers.reservations WHERE id = 1",
    )
    with pytest.raises(UpgradeError, match="rollback was started"):
        await upgraded(v1, v2)
    await roll_back(v2.target, NoProgress(), force=False)
    assert await v2.value("SELECT count(*) FROM vouchers.vouchers") == 0


async def test_nothing_to_roll_back(v2: VersionTwo) -> None:
    with pytest.raises(UpgradeError, match="No data was upgraded"):
        await roll_back(v2.target, NoProgress(), force=False)
