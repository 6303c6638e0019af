"""What version 1 allows, however odd: nothing is lost, and nothing changes silently."""

from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.rehearsal.databases import VersionOne, VersionTwo, upgraded
from deploy.upgrade.verification import verify

pytestmark = pytest.mark.anyio

WIDE = 2_000_000


async def prove(v1: VersionOne, v2: VersionTwo) -> dict[str, Any]:
    """Upgrade in tiny chunks and have every row compared."""
    told = await upgraded(v1, v2, chunk_rows=2)
    verdict = await verify(v2.target, v1.reader)
    assert [check for check in verdict.checks if not check.passed] == []
    return told


def rules(told: dict[str, Any]) -> dict[str, list[int]]:
    return {f"{group['table_name']}.{group['rule']}": group["ids"] for group in told["changed"]}


async def test_an_empty_database(empty_v1: VersionOne, v2: VersionTwo) -> None:
    told = await prove(empty_v1, v2)
    assert told["changed"] == []
    assert told["system_admin_id"] is None
    assert await v2.value("SELECT count(*) FROM vouchers.voucher_types") == 3


async def test_text_of_every_kind(empty_v1: VersionOne, v2: VersionTwo) -> None:
    name = "Zażółć 'gęślą' \"jaźń\" \\ , {NULL} \t\n 👩‍👩‍👧 ‮مرحبا"
    await empty_v1.execute(
        "INSERT INTO users (id, email, name, password_hash, role) VALUES"
        f" (1, 'o''hara+x@example.org', $v${name}$v$, 'h', 'client'),"
        " (5, 'ZOË@example.org', '', 'h', 'client'),"
        " (2000000000, 'łódź@example.org', repeat('x', 255), '', 'therapist')",
        "INSERT INTO therapy_classes (id, name, duration_minutes) VALUES (3, 'NULL', 0)",
        "INSERT INTO sessions (id, therapy_class_id, session_date, notes) VALUES"
        f" (1, 3, '2024-01-01', repeat('🙂', {WIDE})), (9, NULL, 'infinity', '')",
    )
    await prove(empty_v1, v2)
    assert await v2.value("SELECT name FROM identity.users WHERE id = 1") == name
    assert await v2.value("SELECT length(notes) FROM vouchers.sessions WHERE id = 1") == WIDE
    assert await v2.value("SELECT nextval('identity.users_id_seq')") == 2_000_000_001


async def test_ids_that_no_sequence_gives(empty_v1: VersionOne, v2: VersionTwo) -> None:
    await empty_v1.execute(
        "INSERT INTO sessions (id, session_date) SELECT id, now()"
        " FROM unnest('{-2147483648, -1, 0, 7, 2147483647}'::int[]) AS id"
    )
    await prove(empty_v1, v2)
    kept = [row["id"] for row in await v2.rows("SELECT id FROM vouchers.sessions ORDER BY id")]
    assert kept == [-2147483648, -1, 0, 7, 2147483647]


async def test_more_than_two_equal_addresses(empty_v1: VersionOne, v2: VersionTwo) -> None:
    await empty_v1.execute(
        "INSERT INTO users (id, email, name, password_hash, role, created_at) VALUES"
        " (1, 'A@x.org', 'youngest', 'h', 'client', '2024-03-01'),"
        " (2, 'a@X.org', 'oldest', 'h', 'client', '2024-01-01'),"
        " (3, 'a@x.org', 'ageless', 'h', 'admin', NULL),"
        " (4, 'ŻÓŁW@x.org', 'first', 'h', 'client', '2024-01-01'),"
        " (5, 'żółw@x.org', 'second', 'h', 'client', '2024-01-02')"
    )
    told = await prove(empty_v1, v2)
    assert rules(told)["users.email_set_aside"] == [1, 3, 5]
    users = {row["id"]: row for row in await v2.rows("SELECT * FROM identity.users")}
    assert users[2]["email"] == "a@X.org"
    assert [id_ for id_, user in users.items() if user["is_active"]] == [2, 4]
    assert users[3]["email"] == "a@x.org.duplicate-3.invalid"


async def test_nulls_wherever_version_1_allows_them(empty_v1: VersionOne, v2: VersionTwo) -> None:
    await empty_v1.execute(
        "INSERT INTO users (id, email, name, password_hash, role, is_active, created_at,"
        " updated_at) VALUES (1, 'a@x.org', 'a', 'h', 'admin', NULL, NULL, NULL)",
        "INSERT INTO therapy_classes (id, name, duration_minutes, is_active, created_at,"
        " updated_at) VALUES (1, 'c', 60, NULL, NULL, NULL)",
        "INSERT INTO vouchers (id, client_id, therapy_class_id, purchase_date, valid_until,"
        " total_sessions, used_sessions, is_active, created_at, updated_at)"
        " VALUES (1, NULL, NULL, '2024-01-01', '2099-01-01', 3, NULL, NULL, NULL, NULL)",
        "INSERT INTO voucher_codes (id, voucher_id, code, is_spare, is_used, used_date, created_at,"
        " updated_at) VALUES (1, 1, 'VK', NULL, NULL, NULL, NULL, NULL)",
        "INSERT INTO sessions (id, therapy_class_id, session_date, status, notes, created_at,"
        " updated_at) VALUES (1, NULL, '2024-01-01', NULL, NULL, NULL, NULL)",
        "INSERT INTO reservations (id, client_id, therapy_class_id, session_date, voucher_code_id,"
        " status, created_at, updated_at) VALUES (1, NULL, NULL, '2024-01-01', NULL, NULL, NULL,"
        " NULL), (2, NULL, NULL, '2024-01-01', NULL, NULL, NULL, NULL)",
    )
    told = await prove(empty_v1, v2)
    assert set(rules(told)) == {
        "users.is_active_unknown",
        "users.created_at_unknown",
        "therapy_classes.is_active_unknown",
        "therapy_classes.created_at_unknown",
        "vouchers.without_client",
        "vouchers.without_class",
        "vouchers.used_sessions_unknown",
        "vouchers.is_active_unknown",
        "vouchers.created_at_unknown",
        "voucher_codes.is_spare_unknown",
        "voucher_codes.is_used_unknown",
        "voucher_codes.created_at_unknown",
        "sessions.created_at_unknown",
        "reservations.created_at_unknown",
    }
    began = datetime.fromisoformat(told["began_at"])
    assert await v2.value("SELECT created_at FROM vouchers.reservations WHERE id = 2") == began
    assert await v2.value("SELECT status FROM vouchers.sessions") is None


async def test_codes_that_disagree_with_the_count(empty_v1: VersionOne, v2: VersionTwo) -> None:
    """The count is what the client was told: it stays, and the codes keep their own state."""
    await empty_v1.execute(
        "INSERT INTO users (id, email, name, password_hash, role)"
        " VALUES (1, 'a@x.org', 'a', 'h', 'client')",
        "INSERT INTO vouchers (id, client_id, purchase_date, valid_until, total_sessions,"
        " used_sessions) VALUES (1, 1, '2024-01-01', '2099-01-01', 3, 1),"
        " (2, 1, '2024-01-01', '2099-01-01', 3, 3), (3, 1, '2024-01-01', '2099-01-01', -2, -7)",
        "INSERT INTO voucher_codes (voucher_id, code, is_spare, is_used, used_date) VALUES"
        " (1, 'late', false, true, '2024-02-02'), (1, 'early', false, true, '2024-01-31 23:30'),"
        " (1, 'spare', true, true, NULL), (2, 'one', false, true, NULL),"
        " (2, 'unused', false, false, '2024-02-02')",
    )
    told = await prove(empty_v1, v2)
    found = rules(told)
    assert found["vouchers.more_codes_used_than_sessions"] == [1]
    assert found["vouchers.sessions_below_zero"] == [3]
    assert found["voucher_codes.used_on_an_unknown_day"] == [3, 4]
    assert found["voucher_codes.used_date_of_an_unused_code"] == [5]
    ledger = await v2.rows(
        "SELECT r.voucher_id, r.kind, c.code FROM vouchers.redemptions r"
        " LEFT JOIN vouchers.voucher_codes c ON c.id = r.voucher_code_id ORDER BY r.id"
    )
    assert [tuple(row.values()) for row in ledger] == [
        (1, "regular", "early"),
        (1, "backup", "spare"),
        (2, "regular", "one"),
        (2, "regular", None),
        (2, "regular", None),
    ]
    status = "SELECT status FROM vouchers.vouchers WHERE id = $1"
    assert [await v2.value(status, id_) for id_ in (1, 2, 3)] == [
        "active",
        "completed",
        "completed",
    ]


async def test_times_are_utc(empty_v1: VersionOne, v2: VersionTwo) -> None:
    await empty_v1.execute(
        "INSERT INTO sessions (id, session_date) VALUES (1, '2024-03-31 02:30:00.123456'),"
        " (2, '1900-01-01')",
    )
    await prove(empty_v1, v2)
    found = await v2.value("SELECT session_date FROM vouchers.sessions WHERE id = 1")
    assert found == datetime(2024, 3, 31, 2, 30, 0, 123456, tzinfo=UTC)
