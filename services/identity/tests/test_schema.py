"""The schema: as the models say, closed to strangers, closed between tenants."""

import asyncpg
import pytest

from services.identity.models import Base
from shared.migrations import drift
from shared.outbox_relay import plain_dsn
from shared.testing import Database

pytestmark = pytest.mark.anyio

_INSERT = (
    "INSERT INTO users (email, name, password_hash, role, organization_id, is_organization_owner,"
    " is_active, approved_at, created_at, updated_at, version)"
    " VALUES ($1, $1, '!', 'staff', $2, false, true, now(), now(), now(), 1) RETURNING id"
)
_GRANT = (
    "INSERT INTO permissions (user_id, organization_id, permission, granted_at, created_at,"
    " updated_at, version) VALUES ($1, $2, 'manage_users', now(), now(), now(), 1)"
)


async def test_migrations_and_models_agree(database: Database) -> None:
    assert await drift(database.owner_url, Base.metadata) == []


async def test_a_tenant_sees_its_own_rows_alone(database: Database) -> None:
    async with database.admin() as admin:
        ids = {org: await admin.fetchval(_INSERT, f"u{org}@example.org", org) for org in (7, 8)}
        for org, user_id in ids.items():
            await admin.execute(_GRANT, user_id, org)
    connection = await asyncpg.connect(plain_dsn(database.url))
    try:
        assert await connection.fetch("SELECT * FROM users") == []
        async with connection.transaction():
            await connection.execute("SET LOCAL carnet.organization_id = '7'")
            seen = await connection.fetch("SELECT id FROM users")
            granted = await connection.fetch("SELECT user_id FROM permissions")
            changed = await connection.execute("UPDATE users SET name = 'mine'")
        assert [row["id"] for row in seen] == [ids[7]]
        assert [row["user_id"] for row in granted] == [ids[7]]
        assert changed == "UPDATE 1"
        assert await connection.fetch("SELECT * FROM users") == [], "SET LOCAL has ended"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("TRUNCATE users CASCADE")
    finally:
        await connection.close()


async def test_no_row_is_written_into_another_tenant(database: Database) -> None:
    connection = await asyncpg.connect(plain_dsn(database.url))
    try:
        for smuggle in (_INSERT.replace("$2", "8"), "UPDATE users SET organization_id = 8"):
            async with database.admin() as admin:
                await admin.execute("DELETE FROM users")
                await admin.execute(_INSERT, "mine@example.org", 7)
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SET LOCAL carnet.organization_id = '7'")
            arguments = ["x@example.org"] if "$1" in smuggle else []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(smuggle, *arguments)
            await transaction.rollback()
    finally:
        await connection.close()


async def test_no_permission_without_membership(database: Database) -> None:
    async with database.admin() as admin:
        user_id = await admin.fetchval(_INSERT, "a@example.org", 7)
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await admin.execute(_GRANT, user_id, 8)


async def test_addresses_are_unique_without_case(database: Database) -> None:
    async with database.admin() as admin:
        await admin.execute(_INSERT, "Ann@Example.org", 7)
        with pytest.raises(asyncpg.UniqueViolationError):
            await admin.execute(_INSERT, "ann@example.ORG", 8)
