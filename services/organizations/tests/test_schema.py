"""The schema: as the models say, closed to strangers, closed between tenants."""

import asyncpg
import pytest

from services.organizations.models import Base
from shared.migrations import drift
from shared.outbox_relay import plain_dsn
from shared.testing import Database

pytestmark = pytest.mark.anyio

_INSERT = (
    "INSERT INTO organizations (name, slug, timezone, currency, is_active, created_at, updated_at,"
    " version) VALUES ($1, $1, 'UTC', 'USD', true, now(), now(), 1) RETURNING id"
)


async def test_migrations_and_models_agree(database: Database) -> None:
    assert await drift(database.owner_url, Base.metadata) == []


async def test_without_a_tenant_nothing_is_visible(database: Database) -> None:
    async with database.admin() as admin:
        ids = [await admin.fetchval(_INSERT, name) for name in ("one", "two")]
    connection = await asyncpg.connect(plain_dsn(database.url))
    try:
        assert await connection.fetch("SELECT * FROM organizations") == []
        async with connection.transaction():
            await connection.execute(f"SET LOCAL carnet.organization_id = '{ids[0]}'")
            seen = await connection.fetch("SELECT id FROM organizations")
        assert [row["id"] for row in seen] == [ids[0]]
        assert await connection.fetch("SELECT * FROM organizations") == [], "SET LOCAL has ended"
    finally:
        await connection.close()
