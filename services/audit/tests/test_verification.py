"""Tampering as a superuser: every kind is found, and the first wrong row is named."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from services.audit.evidence.chain import Head, Text, append
from services.audit.evidence.drafts import row_of
from services.audit.evidence.seal_stores import store_at
from services.audit.evidence.sealed_heads import Evidence
from services.audit.schemas import ChainReport
from services.audit.service.seals import Sealer, SealReader, SealSigner, seal_heads
from services.audit.service.verification import verify_chain, verify_everything
from services.audit.settings import Settings
from services.audit.tests.conftest import deliver, event
from shared.db import now
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ANNA = {"name": "Anna Nowak", "email": "anna@example.org"}
ROWS = 10
UNGUARDED = "SET session_replication_role = replica"


@pytest.fixture
async def trail(transactions: Transactions, sealer: Sealer) -> None:
    """Ten rows of organization 7, sealed after the eighth, among rows of others."""
    await deliver(transactions, *(event(entity_id=n) for n in range(1, 7)))
    await deliver(transactions, event(organization_id=8), event(organization_id=None))
    await deliver(transactions, event("CREATE", "user", 7, entity_id=42, new_values=dict(ANNA)))
    await deliver(transactions, event(entity_id=8))
    await seal_heads(transactions, sealer, now())
    await deliver(transactions, event(entity_id=9), event(entity_id=10))


async def verify(
    transactions: Transactions, settings: Settings, organization_id: int | None = 7, **ends: int
) -> ChainReport:
    evidence = await evidence_of(settings)
    async with transactions.system() as session:
        return await verify_chain(session, organization_id, evidence, **ends)


async def evidence_of(settings: Settings) -> Evidence:
    return await SealReader(store_at(settings.seals), settings.internal_jwks).evidence()


async def test_an_untouched_trail_is_sound(
    trail: None, transactions: Transactions, settings: Settings
) -> None:
    evidence = await evidence_of(settings)
    async with transactions.system() as session:
        reports = await verify_everything(session, evidence)
    assert [(r.organization_id, r.rows, r.valid, r.sealed) for r in reports] == [
        (None, 1, True, 1),
        (7, ROWS, True, 8),
        (8, 1, True, 1),
    ]


Tamper = Callable[[asyncpg.Connection], Awaitable[None]]


def statement(sql: str) -> Tamper:
    async def tamper(admin: asyncpg.Connection) -> None:
        await admin.execute(sql)

    return tamper


async def rows_from(admin: asyncpg.Connection, position: int) -> list[dict[str, Any]]:
    found = await admin.fetch(
        "SELECT * FROM audit_logs WHERE organization_id = 7 AND position >= $1 ORDER BY position",
        position,
    )
    return [dict(row) for row in found]


async def recompute(admin: asyncpg.Connection, rows: list[dict[str, Any]], head: Head) -> None:
    """Do what a forger who knows the code does: give every row its right hash again."""
    for row in rows:
        for name in ("old_values", "new_values", "envelope"):
            row[name] = json.loads(row[name])
        row |= append(head, Text.of(row), row["id"])
        await admin.execute(
            "UPDATE audit_logs SET action = $2, position = $3, previous_hash = $4, hash = $5"
            " WHERE id = $1",
            *(row[name] for name in ("id", "action", "position", "previous_hash", "hash")),
        )
    await admin.execute(
        "UPDATE chain_heads SET position = $1, hash = $2 WHERE organization_id = 7",
        head.position,
        head.hash,
    )


async def _before(admin: asyncpg.Connection, position: int) -> Head:
    [row, *_] = await rows_from(admin, position - 1)
    return Head(row["position"], row["hash"])


async def alter_and_rehash_all(admin: asyncpg.Connection) -> None:
    rows = await rows_from(admin, 3)
    rows[0]["action"] = "NOTHING_HAPPENED"
    await recompute(admin, rows, await _before(admin, 3))


async def remove_and_close_the_gap(admin: asyncpg.Connection) -> None:
    head = await _before(admin, 4)
    rows = await rows_from(admin, 5)
    await admin.execute("DELETE FROM audit_logs WHERE organization_id = 7 AND position = 4")
    await recompute(admin, rows, head)


async def cut_the_end_and_move_the_head(admin: asyncpg.Connection) -> None:
    head = await _before(admin, 7)
    await admin.execute("DELETE FROM audit_logs WHERE organization_id = 7 AND position >= 7")
    await recompute(admin, [], head)


async def insert_with_a_right_hash(admin: asyncpg.Connection) -> None:
    [model] = [row for row in await rows_from(admin, 5) if row["position"] == 5]
    forged = {**row_of(event("REDEEM"))[0], "id": 10_000}
    forged |= append(await _before(admin, 5), Text.of(forged), forged["id"])
    await _insert(admin, {**model, **forged})


async def insert_at_the_end(admin: asyncpg.Connection) -> None:
    forged = {**row_of(event("REDEEM"))[0], "id": 10_000}
    forged |= append(await _before(admin, ROWS + 1), Text.of(forged), forged["id"])
    await _insert(admin, forged)


async def _insert(admin: asyncpg.Connection, row: dict[str, Any]) -> None:
    values = [json.dumps(v) if isinstance(v, dict) else v for v in row.values()]
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await admin.execute(f"INSERT INTO audit_logs ({', '.join(row)}) VALUES ({places})", *values)


async def swap_two(admin: asyncpg.Connection) -> None:
    await admin.execute(
        "UPDATE audit_logs SET position = 7 - position"
        " WHERE organization_id = 7 AND position IN (3, 4)"
    )


async def move_to_another_organization(admin: asyncpg.Connection) -> None:
    await admin.execute(
        "UPDATE audit_logs SET organization_id = 8 WHERE organization_id = 7 AND position = 3"
    )


_OF_3 = "WHERE organization_id = 7 AND position = 3"
_ALTERED = [
    "action = 'DELETE'",
    "user_id = 1",
    "user_id = NULL",
    "entity_id = 99",
    "old_values = '{}'",
    """new_values = '{"price": "399.98"}'""",
    "ip_address = '198.51.100.1'",
    "user_agent = ''",
    "created_at = created_at + interval '1 microsecond'",
    "event_id = 'another'",
    "correlation_id = 'another'",
    "service = 'identity'",
    "id = id + 100000",
    """envelope = jsonb_set(envelope, '{data,actor,role}', '"admin"')""",
    "hash = sha256('x')",
]
TAMPERED: dict[str, tuple[Tamper, str, int]] = {
    **{
        change: (statement(f"UPDATE audit_logs SET {change} {_OF_3}"), "altered", 3)
        for change in _ALTERED
    },
    "previous hash": (
        statement(f"UPDATE audit_logs SET previous_hash = sha256('x') {_OF_3}"),
        "altered",
        3,
    ),
    "first removed": (
        statement("DELETE FROM audit_logs WHERE organization_id = 7 AND position = 1"),
        "removed",
        1,
    ),
    "one removed": (statement(f"DELETE FROM audit_logs {_OF_3}"), "removed", 3),
    "last removed": (
        statement(f"DELETE FROM audit_logs WHERE organization_id = 7 AND position = {ROWS}"),
        "missing_at_the_end",
        ROWS,
    ),
    "all removed": (
        statement("DELETE FROM audit_logs WHERE organization_id = 7"),
        "missing_at_the_end",
        1,
    ),
    "truncated": (statement("TRUNCATE audit_logs"), "missing_at_the_end", 1),
    "truncated with heads": (
        statement("TRUNCATE audit_logs, chain_heads"),
        "missing_at_the_end",
        1,
    ),
    "swapped": (swap_two, "altered", 3),
    "moved away": (move_to_another_organization, "removed", 3),
    "inserted between": (insert_with_a_right_hash, "inserted", 5),
    "inserted at the end": (insert_at_the_end, "inserted", ROWS + 1),
    "altered and hashed again": (alter_and_rehash_all, "rewritten", 1),
    "removed and closed up": (remove_and_close_the_gap, "rewritten", 1),
    "cut off with the head": (cut_the_end_and_move_the_head, "missing_at_the_end", 7),
    "head set back": (
        statement("UPDATE chain_heads SET position = 9 WHERE organization_id = 7"),
        "altered",
        9,
    ),
    "a name altered": (
        statement("""UPDATE personal_values SET value = '"Eve"' WHERE field = 'name'"""),
        "altered",
        7,
    ),
    "a name erased for nobody": (
        statement("UPDATE personal_values SET value = NULL, salt = NULL WHERE field = 'name'"),
        "altered",
        7,
    ),
    "a name removed": (statement("DELETE FROM personal_values"), "altered", 7),
}


@pytest.mark.parametrize("way", TAMPERED)
async def test_tampering_is_found_and_named(
    trail: None, transactions: Transactions, settings: Settings, database: Database, way: str
) -> None:
    tamper, kind, position = TAMPERED[way]
    async with database.admin() as admin:
        await admin.execute(UNGUARDED)
        await tamper(admin)
    report = await verify(transactions, settings)
    assert report.failure is not None
    assert (report.valid, report.failure.kind, report.failure.position) == (False, kind, position)


@pytest.mark.parametrize("seals", ["folder", "bucket"], indirect=True)
async def test_a_restored_backup_is_found(
    trail: None, transactions: Transactions, settings: Settings, database: Database, sealer: Sealer
) -> None:
    async with database.admin() as admin:
        await admin.execute("CREATE TABLE backup AS SELECT * FROM audit_logs")
        await admin.execute("CREATE TABLE backup_heads AS SELECT * FROM chain_heads")
        await deliver(transactions, *(event(entity_id=n) for n in (11, 12)))
        await seal_heads(transactions, _due(settings), now())
        await admin.execute(UNGUARDED)
        await admin.execute("TRUNCATE audit_logs, chain_heads")
        await admin.execute("INSERT INTO audit_logs SELECT * FROM backup")
        await admin.execute("INSERT INTO chain_heads SELECT * FROM backup_heads")
        await admin.execute("DROP TABLE backup, backup_heads")
    report = await verify(transactions, settings)
    assert report.failure is not None
    assert (report.failure.kind, report.failure.position) == ("missing_at_the_end", ROWS + 1)
    # The restored backup is used: the same positions with other rows.
    await deliver(transactions, *(event(entity_id=n) for n in (21, 22, 23)))
    report = await verify(transactions, settings)
    assert report.failure is not None
    assert (report.failure.kind, report.failure.position) == ("rewritten", 9)


def _due(settings: Settings) -> Sealer:
    """Return a sealer that waits for nothing."""
    store = store_at(settings.seals)
    signer = SealSigner(settings.internal_key.get_secret_value())
    sealer = Sealer(store, SealReader(store, settings.internal_jwks), signer)
    sealer.EVERY_ROWS = 1
    return sealer


async def test_a_range_is_walked_and_nothing_beyond_it(
    trail: None, transactions: Transactions, settings: Settings, database: Database
) -> None:
    async with database.admin() as admin:
        await admin.execute(UNGUARDED)
        await admin.execute(f"UPDATE audit_logs SET action = 'X' {_OF_3}")
    expected = {(1, 2): True, (1, 3): False, (3, 5): False, (4, 6): True, (4, 99): True}
    for (first, last), valid in expected.items():
        report = await verify(transactions, settings, first=first, last=last)
        assert report.valid is valid, (first, last)
    assert (await verify(transactions, settings, first=4, last=6)).rows == 3


async def test_a_range_behind_the_end_is_the_end(
    trail: None, transactions: Transactions, settings: Settings, database: Database
) -> None:
    for first in (ROWS + 1, ROWS + 2, 900):
        report = await verify(transactions, settings, first=first)
        assert (report.valid, report.first, report.rows) == (True, ROWS + 1, 0)
    async with database.admin() as admin:
        await admin.execute(UNGUARDED)
        await admin.execute(
            f"DELETE FROM audit_logs WHERE organization_id = 7 AND position = {ROWS}"
        )
    report = await verify(transactions, settings, first=900)
    assert report.failure is not None
    assert (report.failure.kind, report.failure.position) == ("removed", ROWS)


async def test_an_administrator_verifies_a_range_of_one_chain(
    trail: None, client: httpx.AsyncClient, tokens: Tokens, database: Database
) -> None:
    admin, path = tokens.bearer(1, "admin"), "/api/admin/audit-logs/verify"
    async with database.admin() as connection:
        await connection.execute(UNGUARDED)
        await connection.execute(f"UPDATE audit_logs SET action = 'X' {_OF_3}")
    for ends, valid in (("first=4&last=6", True), ("last=3", False)):
        answer = await client.get(f"{path}?organization_id=7&{ends}", headers=admin)
        assert [report["valid"] for report in answer.json()] == [valid]
    for ends, field in (
        ("organization_id=7&first=5&last=4", "last"),
        ("last=3", "organization_id"),
    ):
        refused = await client.get(f"{path}?{ends}", headers=admin)
        assert refused.json()["errors"][0]["field"] == field


async def test_rows_that_come_meanwhile_are_no_finding(
    trail: None, transactions: Transactions, settings: Settings
) -> None:
    async def write() -> None:
        for _ in range(20):
            await deliver(transactions, event(), event())

    writing = asyncio.ensure_future(write())
    while not writing.done():
        assert (await verify(transactions, settings)).valid
    await writing


async def test_the_api_verifies_within_the_organization(
    trail: None, client: httpx.AsyncClient, tokens: Tokens, database: Database
) -> None:
    owner = tokens.bearer(2, "organization_owner", 7)
    path = "/api/organizations/7/audit-logs/verify"
    report = (await client.get(path, headers=owner)).json()
    assert report == {
        "organization_id": 7,
        "first": 1,
        "last": ROWS,
        "rows": ROWS,
        "valid": True,
        "failure": None,
        "sealed": 8,
    }
    async with database.admin() as admin:
        await admin.execute(UNGUARDED)
        await admin.execute(f"DELETE FROM audit_logs {_OF_3}")
    report = (await client.get(f"{path}?first=2&last=5", headers=owner)).json()
    assert (report["valid"], report["failure"]["kind"]) == (False, "removed")
    everywhere = (
        await client.get("/api/admin/audit-logs/verify", headers=tokens.bearer(1, "admin"))
    ).json()
    assert [(r["organization_id"], r["valid"]) for r in everywhere] == [
        (None, True),
        (7, False),
        (8, True),
    ]
