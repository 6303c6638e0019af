"""An organization and its owner: both or neither, after any interruption."""

from datetime import timedelta

import httpx
import pytest

from services.organizations.app import clients_of
from services.organizations.models import Founding
from services.organizations.service.founding import settle_interrupted
from services.organizations.settings import Settings
from services.organizations.telemetry import FAILING, SETTLED
from services.organizations.tests.conftest import Identity
from services.organizations.tests.test_endpoints import NEW
from shared.db import now
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _settle(settings: Settings, transactions: Transactions, identity: Identity) -> None:
    clients = clients_of(settings, {"identity": httpx.MockTransport(identity)})
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


async def test_the_timer_does_not_abandon_what_a_request_has_resumed(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
) -> None:
    headers = {**admin, "Idempotency-Key": "resumed-beside-the-timer"}
    identity.refuse_connection = True
    answer = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert answer.status_code == 503
    await _grow_old(database)

    async def resume_and_answer(request: httpx.Request) -> httpx.Response:
        """Answer that there is no owner, but only after a request has resumed the founding."""
        identity.refuse_connection = False
        no_owner = identity(request)
        identity.lose_answer = True
        resumed = await client.post("/api/admin/organizations", json=NEW, headers=headers)
        assert (no_owner.status_code, resumed.status_code) == (404, 503)
        return no_owner

    clients = clients_of(settings, {"identity": httpx.MockTransport(resume_and_answer)})
    await settle_interrupted(transactions, clients)
    await clients.aclose()
    [founding] = await database.rows("SELECT * FROM foundings")
    assert founding["organization_id"] in identity.owners
    await _grow_old(database)
    await _settle(settings, transactions, identity)
    assert len(await database.rows("SELECT * FROM organizations")) == 1


async def _interrupt(
    client: httpx.AsyncClient, admin: dict[str, str], identity: Identity, database: Database
) -> int:
    """Leave a founding behind whose owner exists; return its id."""
    before = {row["organization_id"] for row in await database.rows("SELECT * FROM foundings")}
    identity.lose_answer = True
    body = {**NEW, "owner_email": f"owner-{len(before)}@example.org"}
    answer = await client.post("/api/admin/organizations", json=body, headers=admin)
    assert answer.status_code == 503
    identity.lose_answer = False
    after = {row["organization_id"] for row in await database.rows("SELECT * FROM foundings")}
    [id_] = after - before
    return int(id_)


@pytest.mark.parametrize("failure", ["exception", "status"])
async def test_one_that_cannot_be_settled_keeps_no_other_waiting(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
    failure: str,
) -> None:
    ids = [await _interrupt(client, admin, identity, database) for _ in range(3)]
    await _grow_old(database)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(f"/{ids[0]}"):
            if failure == "exception":
                raise RuntimeError("a bug")
            return httpx.Response(409)
        return identity(request)

    clients = clients_of(settings, {"identity": httpx.MockTransport(answer)})
    failed = SETTLED.labels("failed")._value.get()
    for _ in range(2):
        await settle_interrupted(transactions, clients)
    await clients.aclose()
    made = await database.rows("SELECT id FROM organizations ORDER BY id")
    assert [row["id"] for row in made] == ids[1:]
    [left] = await database.rows("SELECT * FROM foundings")
    assert (left["organization_id"], left["failures"]) == (ids[0], 1), "the second run waits"
    assert left["next_attempt_at"] > now()
    assert SETTLED.labels("failed")._value.get() == failed + 1
    assert FAILING._value.get() == 1
    async with database.admin() as connection:
        await connection.execute("UPDATE foundings SET next_attempt_at = now()")
    await _settle(settings, transactions, identity)
    assert len(await database.rows("SELECT id FROM organizations")) == 3
    assert FAILING._value.get() == 0


async def test_a_resumed_attempt_starts_without_the_failures_before(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
) -> None:
    headers = {**admin, "Idempotency-Key": "failed-before"}
    identity.lose_answer = True
    first = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert first.status_code == 503
    await _grow_old(database)
    identity.refuse_connection = True
    await _settle(settings, transactions, identity)
    [founding] = await database.rows("SELECT failures, next_attempt_at FROM foundings")
    assert founding["failures"] == 1
    assert founding["next_attempt_at"] is not None
    second = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert second.status_code == 503
    [founding] = await database.rows("SELECT failures, next_attempt_at FROM foundings")
    assert (founding["failures"], founding["next_attempt_at"]) == (0, None)
    await _grow_old(database)
    identity.refuse_connection = False
    await _settle(settings, transactions, identity)
    assert len(await database.rows("SELECT id FROM organizations")) == 1, "settled without a pause"


async def test_a_failed_settling_does_not_postpone_what_a_request_has_resumed(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    database: Database,
    identity: Identity,
    settings: Settings,
    transactions: Transactions,
) -> None:
    headers = {**admin, "Idempotency-Key": "resumed-while-settling-fails"}
    identity.lose_answer = True
    first = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert first.status_code == 503
    await _grow_old(database)

    async def resume_and_fail(_request: httpx.Request) -> httpx.Response:
        resumed = await client.post("/api/admin/organizations", json=NEW, headers=headers)
        assert resumed.status_code == 503
        return httpx.Response(409)

    clients = clients_of(settings, {"identity": httpx.MockTransport(resume_and_fail)})
    await settle_interrupted(transactions, clients)
    await clients.aclose()
    [founding] = await database.rows("SELECT failures, next_attempt_at FROM foundings")
    assert (founding["failures"], founding["next_attempt_at"]) == (0, None)


def test_the_pause_doubles_up_to_a_day() -> None:
    founding = Founding(organization_id=1, slug="a", fields={}, role="admin", failures=0)
    pauses = []
    for _ in range(40):
        founding.postpone()
        assert founding.next_attempt_at is not None
        pauses.append(round((founding.next_attempt_at - now()).total_seconds()))
    assert pauses[:3] == [60, 120, 240]
    assert pauses[-1] == 24 * 3600
