"""The sample, upgraded: every rule of conversion, once."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from deploy.proof.rehearsal.databases import Upgraded, VersionOne, VersionTwo, upgraded
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.run.verification import verify

pytestmark = pytest.mark.anyio

HASH = "$2b$12$Wk5ZcSOjx8WMj82oXPu2WeDWSY58EKzfsCqyGtujizJa1/XVKys.q"


async def by_id(v2: VersionTwo, query: str) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in await v2.rows(query)}


async def test_the_sample_passes_every_check(sample: Upgraded) -> None:
    v2 = sample.v2
    verdict = await verify(v2.target, sample.v1.reader)
    assert [check for check in verdict.checks if not check.passed] == []


async def test_everything_belongs_to_the_default_organization(sample: Upgraded) -> None:
    v2, told = sample.v2, sample.summary
    [organization] = await v2.rows("SELECT * FROM organizations.organizations")
    assert organization["name"] == "Default Organization"
    assert organization["slug"] == "default-org"
    for table in (
        "identity.users",
        "identity.permissions",
        "vouchers.vouchers",
        "vouchers.voucher_codes",
        "vouchers.redemptions",
        "vouchers.therapy_classes",
        "vouchers.sessions",
        "vouchers.reservations",
        "vouchers.client_copies",
    ):
        found = await v2.rows(f"SELECT DISTINCT organization_id FROM {table}")
        assert [row["organization_id"] for row in found] == [told["organization_id"]], table


async def test_users_keep_ids_passwords_and_roles(sample: Upgraded) -> None:
    v2 = sample.v2
    users = await by_id(v2, "SELECT * FROM identity.users")
    assert sorted(users) == [1, 2, 3, 4, 7, 8, 9, 12]
    assert {user["password_hash"] for user in users.values()} == {HASH}
    assert (users[1]["role"], users[1]["is_organization_owner"]) == ("admin", False)
    assert (users[2]["role"], users[2]["is_organization_owner"]) == ("organization_owner", True)
    assert [users[id_]["role"] for id_ in (3, 4, 7)] == ["therapist", "therapist", "client"]
    assert not users[4]["is_active"]
    assert users[7]["name"] == "Maria Wiśniewska"
    assert users[1]["created_at"] == datetime(2023, 1, 2, 8, tzinfo=UTC)
    assert all(user["approved_at"] == user["created_at"] for user in users.values())


async def test_a_user_of_unknown_age_is_as_old_as_its_last_change(sample: Upgraded) -> None:
    v2 = sample.v2
    [before] = await sample.v1.rows("SELECT updated_at FROM users WHERE id = 12")
    after = await by_id(v2, "SELECT * FROM identity.users")
    assert after[12]["created_at"] == before["updated_at"].replace(tzinfo=UTC)


async def test_the_system_admin_may_be_named(v1: VersionOne, v2: VersionTwo) -> None:
    await upgraded(v1, v2, system_admin="OFFICE@example.org")
    users = await by_id(v2, "SELECT * FROM identity.users")
    assert (users[1]["role"], users[2]["role"]) == ("organization_owner", "admin")


async def test_a_system_admin_must_be_one_of_version_1(v1: VersionOne, v2: VersionTwo) -> None:
    with pytest.raises(UpgradeError, match="no administrator of version 1"):
        await upgraded(v1, v2, system_admin="anna@example.org")


async def test_owners_hold_all_permissions(sample: Upgraded) -> None:
    v2 = sample.v2
    granted = await v2.rows("SELECT user_id, permission, granted_by FROM identity.permissions")
    assert granted == [{"user_id": 2, "permission": "all", "granted_by": None}]


async def test_equal_addresses_are_set_aside_and_reported(sample: Upgraded) -> None:
    v2, told = sample.v2, sample.summary
    users = await by_id(v2, "SELECT * FROM identity.users")
    assert (users[8]["email"], users[8]["is_active"]) == ("Piotr@Example.com", True)
    assert users[9]["email"] == "piotr@example.com.duplicate-9.invalid"
    assert not users[9]["is_active"]
    [finding] = await v2.rows(
        "SELECT detail FROM identity.upgrade_findings WHERE rule = 'email_set_aside' AND id = 9"
    )
    assert '"kept_by": 8' in finding["detail"]
    rules = {(group["table_name"], group["rule"]): group["ids"] for group in told["changed"]}
    assert rules[("users", "email_set_aside")] == [9]


async def test_the_status_of_vouchers(sample: Upgraded) -> None:
    v2 = sample.v2
    vouchers = await by_id(v2, "SELECT * FROM vouchers.vouchers")
    assert {id_: row["status"] for id_, row in vouchers.items()} == {
        1: "active",
        2: "expired",
        3: "completed",
        4: "cancelled",
        5: "cancelled",
        6: "active",
    }
    assert vouchers[6]["used_sessions"] == 0
    assert vouchers[5]["client_id"] is None
    assert vouchers[1]["name"] == "Group therapy, Mondays"
    assert vouchers[6]["name"] == "Voucher of version 1"
    assert (vouchers[1]["backup_sessions"], vouchers[1]["used_backup_sessions"]) == (2, 0)
    assert vouchers[1]["valid_from"] == vouchers[1]["purchase_date"]
    assert vouchers[1]["price"] is None
    assert {row["payment_status"] for row in vouchers.values()} == {"paid"}


async def test_the_day_is_the_organizations(v1: VersionOne, v2: VersionTwo) -> None:
    """In Kiritimati it is tomorrow already, in Pago Pago still yesterday, whatever the hour."""
    now = datetime.now(UTC)
    ahead = (now + timedelta(hours=14)).date()
    await v2.execute(
        "INSERT INTO organizations.organizations (name, slug, timezone, currency, is_active,"
        " created_at, updated_at, version) VALUES ('Default Organization', 'default-org',"
        " 'Pacific/Kiritimati', 'USD', true, now(), now(), 1)"
    )
    await v1.execute(
        f"UPDATE vouchers SET valid_until = '{ahead - timedelta(days=1)}' WHERE id = 1;"
        f"UPDATE vouchers SET valid_until = '{ahead}' WHERE id = 6"
    )
    await upgraded(v1, v2)
    vouchers = await by_id(v2, "SELECT * FROM vouchers.vouchers")
    assert (vouchers[1]["status"], vouchers[6]["status"]) == ("expired", "active")
    assert vouchers[1]["valid_until"] == ahead - timedelta(days=1)


async def test_every_session_spent_is_a_row_of_the_ledger(sample: Upgraded) -> None:
    v2 = sample.v2
    ledger = await v2.rows(
        "SELECT voucher_id, voucher_code_id, kind, session_date, therapist_id"
        " FROM vouchers.redemptions ORDER BY id"
    )
    of_first = [row for row in ledger if row["voucher_id"] == 1]
    assert [row["voucher_code_id"] for row in of_first] == [1, 2, 3]
    assert [row["session_date"] for row in of_first] == [
        date(2024, 5, 8),
        date(2024, 5, 15),
        date(2024, 5, 22),
    ]
    assert {row["kind"] for row in ledger} == {"regular"}
    [bought] = await sample.v1.rows("SELECT purchase_date FROM vouchers WHERE id = 2")
    [of_second] = [row for row in ledger if row["voucher_id"] == 2]
    assert of_second["voucher_code_id"] is None
    assert of_second["session_date"] == bought["purchase_date"]
    assert len(ledger) == 3 + 1 + 5


async def test_codes_keep_ids_and_words(sample: Upgraded) -> None:
    v2 = sample.v2
    before = await sample.v1.rows("SELECT id, code, voucher_id FROM voucher_codes ORDER BY id")
    after = await v2.rows("SELECT id, code, voucher_id FROM vouchers.voucher_codes ORDER BY id")
    assert after == before
    codes = {row["code"]: row for row in await v2.rows("SELECT * FROM vouchers.voucher_codes")}
    assert codes["VK-2024-001-S1"]["is_backup"]
    assert codes["VK-2024-001-01"]["used_at"] == datetime(2024, 5, 8, 10, tzinfo=UTC)
    assert codes["VK-2024-001-01"]["client_id"] == 7
    assert codes["VK-LOST-1"]["voucher_id"] is None
    assert not codes["VK-LOST-1"]["is_backup"]


async def test_classes_sessions_and_reservations_are_kept_whole(sample: Upgraded) -> None:
    v2 = sample.v2
    for table in ("therapy_classes", "sessions", "reservations"):
        columns = await sample.v1.rows(
            "SELECT column_name AS name FROM information_schema.columns WHERE table_name = $1"
            " AND table_schema = 'public' AND data_type <> 'timestamp without time zone'"
            " AND (table_name, column_name) <> ('reservations', 'status')",
            table,
        )
        listed = ", ".join(row["name"] for row in columns)
        before = await sample.v1.rows(f"SELECT {listed} FROM {table} ORDER BY id")
        after = await v2.rows(f"SELECT {listed} FROM vouchers.{table} ORDER BY id")
        assert after == before, table
    [first] = await v2.rows("SELECT starts_at, ends_at FROM vouchers.sessions WHERE id = 1")
    assert first["starts_at"] == datetime(2024, 5, 8, 10, tzinfo=UTC)
    assert first["ends_at"] == datetime(2024, 5, 8, 11, 30, tzinfo=UTC)


async def test_reservations_are_bookings(sample: Upgraded) -> None:
    found = await sample.v2.rows(
        "SELECT status, session_id, voucher_id, redemption_id FROM vouchers.reservations"
        " ORDER BY id"
    )
    assert [tuple(row.values()) for row in found] == [
        ("attended", 1, 1, 1),
        ("booked", 2, 1, None),
        ("cancelled", 3, None, None),
    ]
    booked = "SELECT booked_sessions FROM vouchers.vouchers WHERE id = 1"
    assert await sample.v2.value(booked) == 1
    occupied = await sample.v2.rows(
        "SELECT o.session_id, t.user_id, o.enforced FROM vouchers.occupations o"
        " JOIN vouchers.resources t ON t.id = o.resource_id"
    )
    assert occupied == [{"session_id": 2, "user_id": 3, "enforced": True}]


async def test_the_default_voucher_types(sample: Upgraded) -> None:
    v2 = sample.v2
    types = await v2.rows(
        "SELECT name, total_sessions, backup_sessions, session_duration_minutes,"
        " max_clients_per_session, frequency, price FROM vouchers.voucher_types ORDER BY id"
    )
    assert [tuple(row.values()) for row in types] == [
        ("Standard Individual Therapy", 10, 2, 60, 1, "weekly", Decimal("399.99")),
        ("Group Therapy Package", 8, 2, 90, 8, "weekly", Decimal("199.99")),
        ("Intensive Daily Sessions", 20, 4, 45, 1, "daily", Decimal("799.99")),
    ]


async def test_a_voucher_gets_the_type_of_its_sessions_and_kind(
    v1: VersionOne, v2: VersionTwo
) -> None:
    await v1.execute(
        "UPDATE vouchers SET therapy_class_id = 2 WHERE id = 1;"  # ten, individual
        "UPDATE vouchers SET therapy_class_id = 1 WHERE id = 4;"  # eight, in a group
        "UPDATE vouchers SET therapy_class_id = 1 WHERE id = 6"  # twenty, in a group: no such type
    )
    await upgraded(v1, v2)
    found = await v2.rows(
        "SELECT v.id, t.name FROM vouchers.vouchers v"
        " LEFT JOIN vouchers.voucher_types t ON t.id = v.voucher_type_id ORDER BY v.id"
    )
    names = {row["id"]: row["name"] for row in found}
    assert names[1] == "Standard Individual Therapy"
    assert names[4] == "Group Therapy Package"
    assert names[6] is None
    assert names[5] is None


async def test_sequences_continue_after_version_1(v1: VersionOne, v2: VersionTwo) -> None:
    await v1.execute("SELECT setval('users_id_seq', 500)")
    await upgraded(v1, v2)
    assert await v2.value("SELECT nextval('identity.users_id_seq')") == 501
    assert await v2.value("SELECT nextval('vouchers.vouchers_id_seq')") == 7
    assert await v2.value("SELECT nextval('vouchers.voucher_codes_id_seq')") == 14
    assert await v2.value("SELECT nextval('vouchers.redemptions_id_seq')") == 10


async def test_one_row_in_the_audit_trail(sample: Upgraded) -> None:
    v2, told = sample.v2, sample.summary
    [row] = await v2.rows("SELECT * FROM audit.audit_logs WHERE action = 'migration'")
    assert (row["entity_type"], row["user_id"]) == ("system", None)
    assert row["organization_id"] == told["organization_id"]
    assert row["position"] == 1
    assert '"users": 8' in row["new_values"]
    assert "@" not in row["new_values"]
    assert "Confidential" not in row["new_values"]


async def test_copies_of_users_and_organization(sample: Upgraded) -> None:
    v2 = sample.v2
    columns = "id, name, email, role, organization_id, is_active, version"
    users = await v2.rows(f"SELECT {columns} FROM identity.users ORDER BY id")
    assert await v2.rows(f"SELECT {columns} FROM vouchers.client_copies ORDER BY id") == users
    assert await v2.value("SELECT slug FROM identity.organization_copies") == "default-org"
    assert await v2.value("SELECT timezone FROM vouchers.organization_copies") == "UTC"


async def test_version_1_is_as_it_was(v1: VersionOne, v2: VersionTwo) -> None:
    tables = ("users", "therapy_classes", "vouchers", "voucher_codes", "sessions", "reservations")
    before = {table: await v1.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables}
    await upgraded(v1, v2)
    assert {
        table: await v1.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables
    } == before


async def test_without_leave_to_read_sequences(v1: VersionOne, v2: VersionTwo) -> None:
    await v1.execute(
        "SELECT setval('users_id_seq', 500)",
        "REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM v1_reader",
    )
    await upgraded(v1, v2)
    assert await v2.value("SELECT nextval('identity.users_id_seq')") == 13
