"""The schema: as the models describe it, separate for each tenant, with its constraints."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from services.vouchers.models import Base
from services.vouchers.tests.outside import CLIENT, ORGANIZATION, OTHER_ORGANIZATION
from services.vouchers.tests.people import People, buy, new_type, new_voucher, redeem
from shared.migrations import drift
from shared.outbox_relay import plain_dsn
from shared.testing import Database

pytestmark = pytest.mark.anyio

EDGES = {
    ("pending", "active"),
    ("pending", "cancelled"),
    ("active", "completed"),
    ("active", "expired"),
    ("active", "cancelled"),
    ("completed", "active"),
}
STATES = ("pending", "active", "completed", "expired", "cancelled")


@pytest.fixture
async def role(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service's own role, with no tenant."""
    connection = await asyncpg.connect(plain_dsn(database.url))
    yield connection
    await connection.close()


async def _as_tenant(role: asyncpg.Connection, organization_id: int, query: str) -> list[Any]:
    async with role.transaction():
        await role.execute(f"SET LOCAL carnet.organization_id = '{organization_id}'")
        return [row[0] for row in await role.fetch(query)]


async def test_migrations_and_models_agree(database: Database) -> None:
    assert await drift(database.owner_url, Base.metadata) == []


async def test_every_table_of_a_tenant_is_forced_under_row_level_security(
    database: Database,
) -> None:
    unprotected = await database.rows(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'vouchers'::regnamespace AND c.relkind = 'r'"
        " AND a.attname = 'organization_id' AND NOT a.attisdropped"
        " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert unprotected == []


async def test_raw_sql_sees_the_tenant_alone(
    client: httpx.AsyncClient, people: People, role: asyncpg.Connection
) -> None:
    ours = await new_voucher(client, people)
    kind = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    theirs = (await buy(client, people.other_client, kind["id"])).json()
    await redeem(client, people.therapist, ours["id"])
    for table in ("voucher_types", "vouchers", "voucher_codes", "redemptions", "client_copies"):
        query = f"SELECT organization_id FROM {table}"
        assert await role.fetch(query) == [], f"{table} without a tenant"
        assert set(await _as_tenant(role, ORGANIZATION, query)) == {ORGANIZATION}, table
    async with role.transaction():
        await role.execute(f"SET LOCAL carnet.user_id = '{CLIENT}'")
        own = await role.fetch("SELECT id FROM vouchers")
        codes = await role.fetch("SELECT voucher_id FROM voucher_codes")
    assert [row["id"] for row in own] == [ours["id"]]
    assert {row["voucher_id"] for row in codes} == {ours["id"]}
    update = "UPDATE vouchers SET notes = 'ours now' RETURNING id"
    assert await _as_tenant(role, ORGANIZATION, update) == [ours["id"]]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _as_tenant(
            role,
            ORGANIZATION,
            f"UPDATE client_copies SET organization_id = {OTHER_ORGANIZATION} RETURNING id",
        )
    assert theirs["id"] != ours["id"]


async def test_a_row_cannot_point_at_another_tenants(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    ours = await new_voucher(client, people)
    kind = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    theirs = (await buy(client, people.other_client, kind["id"])).json()
    insert = (
        "INSERT INTO redemptions (organization_id, voucher_id, kind, session_date, created_at,"
        " updated_at, version) VALUES ($1, $2, 'regular', now(), now(), now(), 1)"
    )
    async with database.admin() as admin:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await admin.execute(insert, ORGANIZATION, theirs["id"])
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await admin.execute(
                "UPDATE voucher_codes SET organization_id = $1 WHERE voucher_id = $2",
                OTHER_ORGANIZATION,
                ours["id"],
            )


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in STATES for b in STATES if a != b])
async def test_the_database_refuses_every_other_edge(
    client: httpx.AsyncClient, people: People, database: Database, before: str, after: str
) -> None:
    voucher = await new_voucher(client, people, total_sessions=1)
    used = 1 if "completed" in (before, after) else 0
    async with database.admin() as admin:
        # A replica's session fires no triggers: the way to any state to begin with.
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("UPDATE vouchers SET status = $1, used_sessions = $2", before, used)
        await admin.execute("SET session_replication_role = origin")
        given_back = 0 if (before, after) == ("completed", "active") else used
        move = admin.execute(
            "UPDATE vouchers SET status = $1, used_sessions = $2 WHERE id = $3",
            after,
            given_back,
            voucher["id"],
        )
        if (before, after) in EDGES:
            await move
        else:
            with pytest.raises(asyncpg.CheckViolationError):
                await move


async def test_completed_is_reopened_by_a_session_given_back_alone(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people, total_sessions=1)
    await redeem(client, people.therapist, voucher["id"])
    async with database.admin() as admin:
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute("UPDATE vouchers SET status = 'active'")


async def test_expired_is_reopened_by_a_later_last_day_and_a_session_left(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """Without a later day it is among the transitions that are refused above."""
    voucher = await new_voucher(client, people, total_sessions=1)
    revival = "UPDATE vouchers SET status = 'active', valid_until = valid_until + 1"
    async with database.admin() as admin:
        await admin.execute("UPDATE vouchers SET status = 'expired', used_sessions = 1")
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute(revival)
        await admin.execute("UPDATE vouchers SET used_sessions = 0")
        await admin.execute(revival)
    [row] = await database.rows("SELECT id, status FROM vouchers")
    assert (row["id"], row["status"]) == (voucher["id"], "active")


@pytest.mark.parametrize(
    "change",
    [
        "price = 1",
        "total_sessions = 99",
        "name = 'x'",
        "client_id = 22",
        "booking_rules = '{}'",
        "least_validity_years = 1",
    ],
)
async def test_the_terms_of_a_sold_voucher_do_not_change(
    client: httpx.AsyncClient, people: People, database: Database, change: str
) -> None:
    await new_voucher(client, people)
    async with database.admin() as admin:
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute(f"UPDATE vouchers SET {change}")


@pytest.mark.parametrize("change", ["used_sessions = 11", "used_backup_sessions = -1"])
async def test_counters_stay_within_what_was_sold(
    client: httpx.AsyncClient, people: People, database: Database, change: str
) -> None:
    await new_voucher(client, people)
    async with database.admin() as admin:
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute(f"UPDATE vouchers SET {change}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE redemptions SET session_date = now()",
        "DELETE FROM redemptions",
        "DELETE FROM vouchers",
        "DELETE FROM voucher_codes",
        "TRUNCATE vouchers",
        "ALTER TABLE vouchers DISABLE TRIGGER ALL",
    ],
)
async def test_the_service_cannot_rewrite_its_ledger(
    role: asyncpg.Connection, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await role.execute(statement)
