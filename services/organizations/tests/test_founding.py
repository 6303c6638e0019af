"""An organization and its owner: both or neither, whatever is interrupted."""

from datetime import timedelta

import httpx
import pytest

from services.organizations.app import clients_of
from services.organizations.founding import settle_interrupted
from services.organizations.settings import Settings
from services.organizations.tests.conftest import Identity
from services.organizations.tests.test_endpoints import NEW
from shared.db import now
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _settle(settings: Settings, transactions: Transactions, identity: Identity) -> None:
    clients = clients_of(settings, httpx.MockTransport(identity))
    await settle_interrupted(transactions, clients)
    await clients.aclose()


async def _grow_old(database: Database) -> None:
    async with database.admin() as connection:
        await connection.execute("UPDATE foundings SET started_at = $1", now() - timedelta(hours=1))
        await connection.execute("UPDATE idempotency_keys SET leased_until = now()")


async def test_a_lost_answer_is_finished_by_the_timer(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
) -> None:
    identity.lose_answer = True
    answer = await client.post("/api/admin/organizations", json=NEW, headers=admin)
    assert answer.status_code == 503
    await _settle(settings, transactions, identity)
    assert await database.rows("SELECT * FROM organizations") == [], "a request may still be alive"
    await _grow_old(database)
    for _ in range(2):
        await _settle(settings, transactions, identity)
    [organization] = await database.rows("SELECT * FROM organizations")
    assert organization["id"] in identity.owners
    [event] = await database.events()
    assert event["data"]["actor"]["user_id"] == 1, "the admin founded it, the timer only finished"


async def test_without_an_owner_the_timer_gives_up(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
) -> None:
    identity.refuse_connection = True
    answer = await client.post("/api/admin/organizations", json=NEW, headers=admin)
    assert answer.status_code == 503
    await _grow_old(database)
    identity.refuse_connection = False
    await _settle(settings, transactions, identity)
    assert await database.rows("SELECT * FROM foundings") == []
    assert await database.rows("SELECT * FROM organizations") == []
    assert await database.events() == []


async def test_the_same_key_goes_on_where_the_first_attempt_ended(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database, identity: Identity
) -> None:
    headers = {**admin, "Idempotency-Key": "found-it-once"}
    identity.lose_answer = True
    first = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert first.status_code == 503
    identity.lose_answer = False
    second = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert second.status_code == 201
    again = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert again.json() == second.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len(await database.rows("SELECT * FROM organizations")) == 1
    assert len(identity.owners) == 1


async def test_the_same_key_gets_what_the_timer_has_finished(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
) -> None:
    headers = {**admin, "Idempotency-Key": "finished-meanwhile"}
    identity.lose_answer = True
    lost = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert lost.status_code == 503
    await _grow_old(database)
    await _settle(settings, transactions, identity)
    answer = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert answer.status_code == 201
    [organization] = await database.rows("SELECT * FROM organizations")
    assert answer.json()["id"] == organization["id"]
    assert answer.json()["owner"]["id"] == identity.owners[organization["id"]]["id"]


async def test_the_timer_leaves_a_resumed_attempt_alone(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database, identity: Identity
) -> None:
    headers = {**admin, "Idempotency-Key": "begun-again"}
    identity.refuse_connection = True
    for _ in range(2):
        answer = await client.post("/api/admin/organizations", json=NEW, headers=headers)
        assert answer.status_code == 503
        [before] = await database.rows("SELECT started_at FROM foundings")
        await _grow_old(database)
    assert now() - before["started_at"] < timedelta(minutes=1)
