"""What version 1 allows, however odd: nothing is lost, and nothing changes silently."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from deploy.proof.rehearsal.databases import VersionOne, VersionTwo, upgraded
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.operator.preflight import inspect
from deploy.upgrade.rows.rules import BOOKING_MEANINGS
from deploy.upgrade.run.verification import verify

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
        " (5, 'żółw@x.org', 'second', 'h', 'client', '2024-01-02'),"
        " (6, 'z\u0307o\u0301łw@x.org', 'decomposed', 'h', 'client', '2024-01-03'),"
        " (7, 'VICT\u0130M@x.org', 'dotted', 'h', 'client', '2024-01-01'),"
        " (8, 'victim@x.org', 'plain', 'h', 'client', '2024-01-02')"
    )
    told = await prove(empty_v1, v2)
    assert rules(told)["users.email_set_aside"] == [1, 3, 5, 6, 8]
    users = {row["id"]: row for row in await v2.rows("SELECT * FROM identity.users")}
    assert users[2]["email"] == "a@X.org"
    assert [id_ for id_, user in users.items() if user["is_active"]] == [2, 4, 7]
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
        "sessions.session_added",
        "sessions.session_without_class",
        "reservations.created_at_unknown",
        "reservations.reservation_without_client",
    }
    began = datetime.fromisoformat(told["began_at"])
    assert await v2.value("SELECT created_at FROM vouchers.reservations WHERE id = 2") == began
    assert await v2.rows("SELECT id, status FROM vouchers.sessions ORDER BY id") == [
        {"id": 1, "status": "scheduled"},
        {"id": 2, "status": "cancelled"},
        {"id": 3, "status": "cancelled"},
    ]


async def test_codes_that_disagree_with_the_count(empty_v1: VersionOne, v2: VersionTwo) -> None:
    """The count is the one that the client knows: it stays, and the codes keep their own state."""
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
    found = await v2.value("SELECT starts_at FROM vouchers.sessions WHERE id = 1")
    assert found == datetime(2024, 3, 31, 2, 30, 0, 123456, tzinfo=UTC)


OUTSIDE = ("20224-06-30", "0044-03-15 BC", "infinity", "-infinity", "9999-12-31", "0001-01-01")


async def test_days_that_no_calendar_of_version_2_has(empty_v1: VersionOne, v2: VersionTwo) -> None:
    """A typed year or a day without an end is moved to the nearest day that is known."""
    await empty_v1.execute(
        "INSERT INTO users (id, email, name, password_hash, role, created_at, updated_at) VALUES"
        " (1, 'a@x.org', 'a', 'h', 'client', '-infinity', '294000-01-01')",
        "INSERT INTO therapy_classes (id, name, duration_minutes, created_at) VALUES"
        " (1, 'c', 60, '10000-01-01')",
    )
    for id_, day in enumerate(OUTSIDE, 1):
        await empty_v1.execute(
            "INSERT INTO vouchers (id, client_id, therapy_class_id, purchase_date, valid_until,"
            f" total_sessions, used_sessions, created_at) VALUES ({id_}, 1, 1, '{day}', '{day}', 3,"
            f" 2, '{day}'), ({id_ + 10}, 1, 1, '2024-01-01', '{day}', 3, 2, now())",
            "INSERT INTO voucher_codes (id, voucher_id, code, is_used, used_date, created_at)"
            f" VALUES ({id_}, {id_}, 'VK-{id_}', true, '{day}', '{day}')",
            "INSERT INTO sessions (id, therapy_class_id, session_date, updated_at)"
            f" VALUES ({id_}, 1, '{day}', '{day}')",
            "INSERT INTO reservations (id, client_id, therapy_class_id, session_date)"
            f" VALUES ({id_}, 1, 1, '{day}')",
        )
    found = (await inspect(empty_v1.reader, None, None)).groups
    told = await prove(empty_v1, v2)
    assert {(g["table_name"], g["rule"]): g["ids"] for g in found} == {
        (g["table_name"], g["rule"]): g["ids"]
        for g in told["changed"]
        if g["rule"] not in BOOKING_MEANINGS
    }, "preflight says what the copy does"
    assert rules(told)["vouchers.day_outside_the_calendar"] == [*range(1, 7), *range(11, 15)]
    early, late = date(1000, 1, 1), date(8999, 12, 31)
    days = [late, early, late, early, late, early]
    vouchers = {row["id"]: row for row in await v2.rows("SELECT * FROM vouchers.vouchers")}
    assert [vouchers[id_]["valid_until"] for id_ in range(1, 7)] == days
    assert [vouchers[id_]["valid_from"] for id_ in range(1, 7)] == days
    assert [vouchers[id_]["valid_until"] for id_ in range(11, 17)] == days
    assert {row["status"] for row in vouchers.values() if row["valid_until"] == late} == {"active"}
    assert {row["status"] for row in vouchers.values() if row["valid_until"] == early} == {
        "expired"
    }
    for table in ("vouchers", "voucher_codes", "redemptions", "sessions", "reservations"):
        assert await v2.rows(f"SELECT * FROM vouchers.{table}"), table
    assert await v2.value("SELECT count(DISTINCT starts_at) FROM vouchers.reservations") == 6


UNBOUND = (
    "ALTER TABLE users DROP CONSTRAINT users_role_check, ALTER email DROP NOT NULL,"
    " ALTER name DROP NOT NULL, ALTER password_hash DROP NOT NULL, ALTER role DROP NOT NULL,"
    " ALTER name TYPE text",
    "ALTER TABLE therapy_classes ALTER name DROP NOT NULL, ALTER duration_minutes DROP NOT NULL,"
    " ALTER capacity DROP NOT NULL",
    "ALTER TABLE vouchers DROP CONSTRAINT check_sessions, ALTER purchase_date DROP NOT NULL,"
    " ALTER valid_until DROP NOT NULL, ALTER total_sessions DROP NOT NULL",
    "ALTER TABLE voucher_codes ALTER code DROP NOT NULL",
    "ALTER TABLE sessions DROP CONSTRAINT sessions_status_check, ALTER session_date DROP NOT NULL",
    "ALTER TABLE reservations DROP CONSTRAINT reservations_status_check,"
    " ALTER session_date DROP NOT NULL",
)


async def test_what_constraints_forbade_before_they_were_dropped(
    empty_v1: VersionOne, v2: VersionTwo
) -> None:
    await empty_v1.execute(
        *UNBOUND,
        "INSERT INTO users (id, email, name, password_hash, role, created_at) VALUES"
        " (-1, 'minus@x.org', 'minus', 'h', 'client', '2024-01-01'),"
        " (0, 'zero@x.org', 'zero', 'h', 'admin', '2024-01-01'),"
        " (1, NULL, NULL, NULL, NULL, '2024-01-01'), (2, E' \\t ', 'blank', 'h', 'wizard',"
        " '2024-01-01'), (3, E'a@x.org \\n', repeat('x', 300), 'h', 'client', '2024-01-02'),"
        " (4, 'A@x.org', E'two\\nlines', 'h', 'client', '2024-01-01'),"
        " (5, repeat('x', 245) || '@x.org   ', 'long', 'h', 'client', '2024-01-01')",
        "INSERT INTO therapy_classes (id, name, duration_minutes, capacity)"
        " VALUES (1, NULL, NULL, NULL)",
        "INSERT INTO vouchers (id, client_id, therapy_class_id, purchase_date, valid_until,"
        " total_sessions, used_sessions, created_at) VALUES"
        " (1, 1, 1, NULL, NULL, NULL, 1, '2024-05-05 10:00'),"
        " (2, 2, 1, '2024-01-01', '2099-01-01', 2, 9, NULL)",
        "INSERT INTO voucher_codes (id, voucher_id, code) VALUES (1, 1, NULL), (2, 2, 'VK-1'),"
        " (3, 2, 'vk-1')",
        "INSERT INTO sessions (id, session_date, status, created_at)"
        " VALUES (1, NULL, 'dreamt', '2024-01-01')",
        "INSERT INTO reservations (id, session_date, status, created_at)"
        " VALUES (1, NULL, 'scheduled', '2024-01-01')",
    )
    found = (await inspect(empty_v1.reader, None, None)).groups
    told = await prove(empty_v1, v2)
    listed = {f"{group['table_name']}.{group['rule']}": group["ids"] for group in found}
    assert listed.pop("voucher_codes.code_differs_in_case") == [2]
    changed = rules(told)
    of_bookings = {rule for rule in changed if rule.split(".")[1] in BOOKING_MEANINGS}
    copied = {rule: ids for rule, ids in changed.items() if rule not in of_bookings}
    assert listed == copied
    assert changed["users.email_set_aside"] == [3]
    assert changed["users.id_not_positive"] == [-1, 0]
    assert changed["users.email_missing"] == [1, 2]
    assert changed["users.email_trimmed"] == [3, 5]
    assert changed["users.role_unknown"] == [1, 2]
    assert changed["users.name_not_as_entered_today"] == [3, 4]
    assert changed["vouchers.more_used_than_sold"] == [1, 2]
    users = {row["id"]: row for row in await v2.rows("SELECT * FROM identity.users")}
    assert users[3]["email"] == "a@x.org.duplicate-3.invalid"
    assert (users[1]["email"], users[1]["is_active"]) == ("user-1@missing.invalid", False)
    assert (users[1]["role"], users[1]["password_hash"]) == ("client", "!")
    assert await v2.value("SELECT status FROM vouchers.vouchers WHERE id = 1") == "cancelled"
    assert (
        await v2.value("SELECT code FROM vouchers.voucher_codes WHERE id = 1") == "WITHOUT-CODE-1"
    )


KEYLESS = {
    "groups of vouchers have the same id: ids 1": (
        "ALTER TABLE vouchers DROP CONSTRAINT vouchers_pkey CASCADE;"
        "INSERT INTO vouchers SELECT * FROM vouchers WHERE id = 1"
    ),
    "1 users have no id": (
        "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE;"
        "ALTER TABLE users ALTER id DROP NOT NULL;"
        "INSERT INTO users (id, email, name, password_hash, role)"
        " VALUES (NULL, 'n@x.org', 'n', 'h', 'client')"
    ),
    "groups of voucher_codes have the same code: ids 1": (
        "ALTER TABLE voucher_codes DROP CONSTRAINT voucher_codes_code_key;"
        "INSERT INTO voucher_codes (voucher_id, code) VALUES (2, 'VK-2024-001-01')"
    ),
    "groups of reservations have the same client_id, therapy_class_id, session_date: ids 1": (
        "ALTER TABLE reservations"
        " DROP CONSTRAINT reservations_client_id_therapy_class_id_session_date_key;"
        "INSERT INTO reservations (client_id, therapy_class_id, session_date)"
        " SELECT client_id, therapy_class_id, session_date FROM reservations WHERE id = 1"
    ),
    "1 sessions refer to therapy_classes that do not exist: ids 3": (
        "ALTER TABLE sessions DROP CONSTRAINT sessions_therapy_class_id_fkey;"
        "UPDATE sessions SET therapy_class_id = 99 WHERE id = 3"
    ),
}


@pytest.mark.parametrize("fault", KEYLESS)
async def test_rows_without_a_key_stop_the_upgrade_by_name(
    v1: VersionOne, v2: VersionTwo, fault: str
) -> None:
    await v1.execute(*KEYLESS[fault].split(";"))
    problems = (await inspect(v1.reader, None, None)).problems
    assert any(fault in problem for problem in problems), problems
    with pytest.raises(UpgradeError, match=fault):
        await upgraded(v1, v2)
    assert await v2.rows("SELECT * FROM identity.users") == []
