"""Verification fails loudly: one altered, missing or added row is named."""

import pytest

from deploy.proof.rehearsal.databases import Upgraded, VersionOne, VersionTwo, upgraded
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.run.verification import Verdict, verify

pytestmark = pytest.mark.anyio

# (what is tampered with, how it is put right again, the check that must fail)
TAMPERED = {
    "a name": (
        "UPDATE identity.users SET name = name || '.' WHERE id = 7",
        "UPDATE identity.users SET name = left(name, -1) WHERE id = 7",
        "rows of users: 8 of 8, differing ids: 7",
    ),
    "a password": (
        "UPDATE identity.users SET password_hash = password_hash || '.' WHERE id = 7",
        "UPDATE identity.users SET password_hash = left(password_hash, -1) WHERE id = 7",
        "rows of users: 8 of 8, differing ids: 7",
    ),
    "a code": (
        "UPDATE vouchers.voucher_codes SET code = 'VK-2024-001-XX' WHERE id = 4",
        "UPDATE vouchers.voucher_codes SET code = 'VK-2024-001-04' WHERE id = 4",
        "rows of voucher_codes: 13 of 13, differing ids: 4",
    ),
    "a last day": (
        "UPDATE vouchers.vouchers SET valid_until = valid_until + 1 WHERE id = 3",
        "UPDATE vouchers.vouchers SET valid_until = valid_until - 1 WHERE id = 3",
        "rows of vouchers: 6 of 6, differing ids: 3",
    ),
    "a confidential note": (
        "UPDATE vouchers.sessions SET notes = 'confidential.' WHERE id = 1",
        "UPDATE vouchers.sessions SET notes = 'Confidential.' WHERE id = 1",
        "rows of sessions: 3 of 3, differing ids: 1",
    ),
    "a reservation's state": (
        "UPDATE vouchers.reservations SET status = 'booked' WHERE id = 1",
        "UPDATE vouchers.reservations SET status = 'attended' WHERE id = 1",
        "rows of reservations: 3 of 3, differing ids: 1",
    ),
    "an earmark": (
        "UPDATE vouchers.vouchers SET booked_sessions = 0 WHERE id = 1",
        "UPDATE vouchers.vouchers SET booked_sessions = 1 WHERE id = 1",
        "sessions booked of every voucher are its reservations: 1 unequal, first voucher 1",
    ),
    "a seat": (
        "UPDATE vouchers.sessions SET seats_taken = 0 WHERE id = 1",
        "UPDATE vouchers.sessions SET seats_taken = 1 WHERE id = 1",
        "seats of every session are its reservations: 1 unequal, first session 1",
    ),
    "a reservation's redemption": (
        "UPDATE vouchers.reservations SET redemption_id = 2 WHERE id = 1",
        "UPDATE vouchers.reservations SET redemption_id = 1 WHERE id = 1",
        "voucher and redemption of every reservation: 1 unequal, first reservation 1",
    ),
    "the time of a therapist": (
        "UPDATE vouchers.occupations SET session_id = 1 WHERE session_id = 2",
        "UPDATE vouchers.occupations SET session_id = 2 WHERE session_id = 1",
        "time of therapists that future sessions block: 2 unequal, first session 1",
    ),
    "a row in a hole": (
        "INSERT INTO vouchers.therapy_classes (id, organization_id, name, duration_minutes,"
        " capacity, is_active, created_at, updated_at, version)"
        " SELECT 0, organization_id, 'x', 1, 1, true, now(), now(), 1 FROM vouchers.upgrade_plan",
        "DELETE FROM vouchers.therapy_classes WHERE id = 0",
        "rows of therapy_classes: 4 of 3, differing ids: 0",
    ),
    "a session spent": (
        "UPDATE vouchers.redemptions SET kind = 'backup' WHERE id = 1",
        "UPDATE vouchers.redemptions SET kind = 'regular' WHERE id = 1",
        "balance of every voucher is its redemptions: 1 unequal, first voucher 1",
    ),
    "a copy": (
        "UPDATE vouchers.client_copies SET is_active = NOT is_active WHERE id = 8",
        "UPDATE vouchers.client_copies SET is_active = NOT is_active WHERE id = 8",
        "copies of users in vouchers: 8 of 8, differing ids: 8",
    ),
    "a permission": (
        "UPDATE identity.permissions SET permission = 'manage_users'",
        "UPDATE identity.permissions SET permission = 'all'",
        "owners with all permissions: 0 of 1",
    ),
    "an organization": (
        "ALTER TABLE identity.permissions DROP CONSTRAINT fk_permissions_organization_id_user_id;"
        "UPDATE identity.users SET organization_id = NULL WHERE id = 2",
        "UPDATE identity.users SET organization_id ="
        " (SELECT organization_id FROM identity.upgrade_plan) WHERE id = 2",
        "users without organization: 1 of version 1",
    ),
    "a sequence": (
        "SELECT setval('vouchers.vouchers_id_seq', 3)",
        "SELECT setval('vouchers.vouchers_id_seq', 6)",
        "next id of vouchers: 4, version 1 had 6",
    ),
}


async def failures(upgraded_sample: Upgraded) -> list[str]:
    verdict: Verdict = await verify(upgraded_sample.v2.target, upgraded_sample.v1.reader)
    return [f"{check.name}: {check.detail}" for check in verdict.checks if not check.passed]


@pytest.mark.parametrize("what", TAMPERED)
async def test_one_altered_row_is_named(sample: Upgraded, what: str) -> None:
    alter, restore, expected = TAMPERED[what]
    await sample.v2.execute(alter)
    try:
        assert expected in await failures(sample)
    finally:
        await sample.v2.execute(restore)


async def test_rows_that_version_1_got_since_are_missed(v1: VersionOne, v2: VersionTwo) -> None:
    await upgraded(v1, v2)
    await v1.execute("INSERT INTO sessions (session_date) VALUES ('2030-01-01')")
    found = await failures(Upgraded(v1, v2, {}))
    assert "rows of sessions: 3 of 4, differing ids: 4" in found
    with pytest.raises(UpgradeError, match="sessions grew to id 4"):
        await upgraded(v1, v2)


async def test_the_queries_of_the_user_are_answered(sample: Upgraded) -> None:
    verdict = await verify(sample.v2.target, sample.v1.reader)
    assert verdict.answers is not None
    answers = {answer.query: answer for answer in verdict.answers}
    assert answers["SELECT COUNT(*) FROM organizations"].number == 1
    assert answers["SELECT COUNT(*) FROM users WHERE organization_id IS NULL"].number == 0
    assert answers["SELECT COUNT(*) FROM voucher_types"].number == 3
    [row] = answers[
        "SELECT * FROM audit_logs WHERE action = 'migration' ORDER BY created_at DESC LIMIT 1"
    ].rows
    assert row["entity_type"] == "system"
    constraints = [answer for query, answer in answers.items() if "pg_constraint" in query]
    assert len(constraints) == 5
    assert all(answer.rows for answer in constraints)


async def test_nothing_to_verify(v1: VersionOne, v2: VersionTwo) -> None:
    with pytest.raises(UpgradeError, match="No data was upgraded"):
        await verify(v2.target, v1.reader)
