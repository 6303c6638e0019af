"""Idempotency keys: one effect per key, the first answer again."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Response
from pydantic import SecretStr

from shared.idempotency import IdempotencyClaim, RequestInProgress
from shared.settings import ServiceSettings
from shared.testing import Database, Tokens, client_of, until
from shared.tests import sample
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

PATHS = ("/api/things", "/api/things/in-two-steps", "/api/things/in-two-transactions")


def keyed(headers: dict[str, str], key: str = "key-1") -> dict[str, str]:
    return {**headers, "Idempotency-Key": key}


async def sent(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], **changes: Any
) -> httpx.Response:
    body = {"name": "first", "price": 400, **changes}
    return await client.post(path, json=body, headers=headers)


@pytest.mark.parametrize("path", PATHS)
async def test_the_first_answer_comes_again(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, path: str
) -> None:
    first = await sent(client, path, keyed(staff))
    again = await sent(client, path, keyed(staff))
    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    assert '"price":400.00' in again.text
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(await database.rows("SELECT * FROM things")) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_another_body_under_the_key_is_refused(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, path: str
) -> None:
    await sent(client, path, keyed(staff))
    answer = await sent(client, path, keyed(staff), name="second")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await database.rows("SELECT * FROM things")) == 1


async def test_the_key_belongs_to_its_caller_and_route(
    client: httpx.AsyncClient, staff: dict[str, str], tokens: Tokens, database: Database
) -> None:
    await sent(client, PATHS[0], keyed(staff), name="a")
    others = (
        (PATHS[0], tokens.bearer(6, "staff", 8), "b"),
        (PATHS[1], staff, "c"),
        (PATHS[0], tokens.bearer(6, "staff", 7), "b"),
        (PATHS[2], staff, "d"),
    )
    for path, headers, name in others:
        answer = await sent(client, path, keyed(headers), name=name)
        assert answer.status_code == 201
    names = await database.rows("SELECT name FROM things ORDER BY name")
    assert [row["name"] for row in names] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("path", PATHS)
async def test_fifty_at_once_have_one_effect(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, path: str
) -> None:
    changes = {"name": "slow"} if path == PATHS[0] else {"note": "slow"}
    answers = await asyncio.gather(
        *(sent(client, path, keyed(staff), **changes) for _ in range(50))
    )
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {201, 409}
    created = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in created}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in created) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "request_in_progress"
            assert answer.headers["retry-after"] == "1"
    assert len(await database.rows("SELECT * FROM things")) == 1
    assert (await sent(client, path, keyed(staff), **changes)).status_code == 201


@pytest.mark.parametrize("path", [PATHS[0], PATHS[2]])
async def test_repetitions_during_the_first_transaction_occupy_no_connection(
    settings: ServiceSettings, staff: dict[str, str], database: Database, path: str
) -> None:
    async def is_waiting() -> bool:
        statement = (
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return bool(await database.rows(statement))

    async with (
        database.admin() as admin,
        _instance(settings, database_pool_size=1) as client,
        asyncio.TaskGroup() as tasks,
    ):
        await admin.execute("SELECT pg_advisory_lock($1)", sample.LOCK)
        first = tasks.create_task(sent(client, path, keyed(staff), name="locked out"))
        await until(is_waiting)
        # The first request has one of the two connections.
        async with asyncio.timeout(30):
            answers = await asyncio.gather(
                *(sent(client, path, keyed(staff), name="locked out") for _ in range(50)),
                client.get("/api/things", headers=staff),
            )
        assert [answer.status_code for answer in answers] == [*[409] * 50, 200]
        await admin.execute("SELECT pg_advisory_unlock($1)", sample.LOCK)
    assert first.result().status_code == 201


@pytest.mark.parametrize("path", [PATHS[0], PATHS[2]])
async def test_a_refusal_is_remembered(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, path: str
) -> None:
    for replayed in (False, True):
        answer = await sent(client, path, keyed(staff), name="too expensive")
        assert (answer.status_code, answer.json()["code"]) == (409, "too_expensive")
        assert ("idempotent-replayed" in answer.headers) is replayed
    assert await database.rows("SELECT * FROM things") == []


@pytest.mark.parametrize("path", [PATHS[0], PATHS[2]])
@pytest.mark.parametrize(("name", "status"), [("unavailable", 503), ("crash", 500)])
async def test_a_failure_is_not_remembered(
    client: httpx.AsyncClient,
    staff: dict[str, str],
    database: Database,
    name: str,
    status: int,
    path: str,
) -> None:
    for _ in range(2):
        answer = await sent(client, path, keyed(staff), name=name)
        assert answer.status_code == status
        assert "idempotent-replayed" not in answer.headers
    assert await database.rows("SELECT * FROM idempotency_keys WHERE status IS NOT NULL") == []
    assert await database.rows("SELECT * FROM things") == []


async def test_an_invalid_body_leaves_the_key_free(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    for path in PATHS:
        refused = await sent(client, path, keyed(staff), name="")
        assert refused.status_code == 422
    # The key has no effect yet, so the corrected body may use it.
    assert (await sent(client, PATHS[0], keyed(staff))).status_code == 201


@pytest.mark.parametrize(
    ("path", "note"), [(PATHS[1], "crash"), (PATHS[2], "crash"), (PATHS[2], "unreadable")]
)
async def test_a_later_attempt_goes_on_where_the_first_was_interrupted(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, path: str, note: str
) -> None:
    for _ in range(2):
        answer = await sent(client, path, keyed(staff), note=note)
        assert answer.status_code == 500
    [thing] = await database.rows("SELECT id, state FROM things")
    [key] = await database.rows("SELECT resource_id, leased_until, status FROM idempotency_keys")
    assert key == {"resource_id": thing["id"], "leased_until": None, "status": None}
    assert thing["state"] == "open", "the last step was rolled back with its response"


@pytest.mark.parametrize("path", PATHS[1:])
async def test_a_lease_that_a_crash_left_behind_runs_out(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, path: str
) -> None:
    await sent(client, path, keyed(staff))
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE idempotency_keys SET status = NULL, leased_until = now() + interval '40 s'"
        )
    assert (await sent(client, path, keyed(staff))).status_code == 409
    async with database.admin() as admin:
        await admin.execute("UPDATE idempotency_keys SET leased_until = now()")
    answer = await sent(client, path, keyed(staff))
    assert answer.status_code == 201
    assert len(await database.rows("SELECT * FROM things")) == 1


@pytest.mark.parametrize("note", ["refused inside", "refused at last"])
async def test_a_refusal_in_the_last_transaction_takes_only_that_one_back(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, note: str
) -> None:
    for replayed in (False, True):
        answer = await sent(client, PATHS[2], keyed(staff), note=note)
        assert (answer.status_code, answer.json()["code"]) == (409, "too_expensive")
        assert ("idempotent-replayed" in answer.headers) is replayed
    [thing] = await database.rows("SELECT state FROM things")
    assert thing["state"] == "open"
    [event] = await database.events()
    assert event["type"] == "sample.thing.created.v1"


async def test_a_refusal_before_the_key_is_claimed_is_remembered_too(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    for replayed in (False, True):
        answer = await sent(client, PATHS[2], keyed(staff), name="refused early")
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (403, replayed)
    other = await sent(client, PATHS[2], keyed(staff), name="another body")
    assert other.json()["code"] == "idempotency_key_reused"


async def test_no_refusal_is_given_for_a_key_that_another_request_has(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    refused = {"name": "refused early"}
    await sent(client, PATHS[2], keyed(staff), **refused)
    running = "UPDATE idempotency_keys SET status = NULL, leased_until = now() + interval '40 s'"
    finished = "UPDATE idempotency_keys SET status = 201, body = 'done', leased_until = NULL"
    for statement, status in ((running, 409), (finished, 201)):
        async with database.admin() as admin:
            await admin.execute(statement)
        answer = await sent(client, PATHS[2], keyed(staff), **refused)
        assert answer.status_code == status
    assert (answer.content, answer.headers["idempotent-replayed"]) == (b"done", "true")
    [row] = await database.rows("SELECT status FROM idempotency_keys")
    assert row["status"] == 201, "a conflict about the key is not its response"


async def test_the_response_commits_with_the_last_transaction(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    await sent(client, PATHS[2], keyed(staff))
    rows = await database.rows(
        "SELECT (SELECT xmin FROM idempotency_keys)::text AS key, xmin::text AS thing FROM things"
    )
    assert rows[0]["key"] == rows[0]["thing"]


async def test_after_a_day_the_key_is_free(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    await sent(client, PATHS[0], keyed(staff))
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'"
        )
    answer = await sent(client, PATHS[0], keyed(staff), name="second")
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    again = await sent(client, PATHS[0], keyed(staff), name="second")
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb"])
async def test_bad_keys_are_refused(
    client: httpx.AsyncClient, staff: dict[str, str], key: str
) -> None:
    answer = await sent(client, PATHS[0], keyed(staff, key))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_a_refusal_never_replaces_anothers_success(
    transactions: Transactions, database: Database
) -> None:
    claims = [IdempotencyClaim("user/5", PATHS[0], "key-1", "same body") for _ in range(2)]
    async with transactions.system() as refused:
        await claims[0].begin(refused)
        await refused.rollback()
        async with transactions.system() as session:
            await claims[1].begin(session)
            await claims[1].store(session, Response(status_code=201))
        await claims[0].store(refused, Response(status_code=409))
    [row] = await database.rows("SELECT status FROM idempotency_keys")
    assert row["status"] == 201


async def test_an_attempt_that_stood_still_for_longer_than_its_lease_has_no_effect(
    transactions: Transactions, database: Database
) -> None:
    frozen, second = [IdempotencyClaim("user/5", PATHS[1], "key-1", "same body") for _ in range(2)]
    async with transactions.system() as session:
        await frozen.begin(session, lease=True)
    async with database.admin() as admin:
        await admin.execute("UPDATE idempotency_keys SET leased_until = now() - interval '1 s'")
    async with transactions.system() as session:
        await second.begin(session, lease=True)
    with pytest.raises(RequestInProgress):
        async with transactions.system() as session:
            await frozen.attach(session, 1)
    async with transactions.system() as session:
        await second.attach(session, 2)
        await frozen.release(session)
        await frozen.store(session, Response(status_code=409))
    [row] = await database.rows("SELECT resource_id, status, leased_until FROM idempotency_keys")
    assert (row["resource_id"], row["status"]) == (2, None)
    assert row["leased_until"] is not None, "the key is still the second attempt's"


@asynccontextmanager
async def _instance(settings: ServiceSettings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An instance of the service with settings of its own, over the same database."""
    changed = settings.model_copy(update=changes)
    async with client_of(sample.create_app(changed)) as client:
        yield client


def _other_signing_key() -> SecretStr:
    return SecretStr(Tokens().settings("audit")["internal_key"])


@pytest.mark.parametrize("path", PATHS)
async def test_a_new_signing_key_refuses_no_repetition(
    settings: ServiceSettings, staff: dict[str, str], database: Database, path: str
) -> None:
    async with _instance(settings) as before:
        first = await sent(before, path, keyed(staff))
    async with _instance(settings, internal_key=_other_signing_key()) as after:
        again = await sent(after, path, keyed(staff))
        assert (again.status_code, again.content) == (201, first.content)
        other = await sent(after, path, keyed(staff), name="second")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await database.rows("SELECT * FROM things")) == 1


async def test_both_versions_of_a_rolling_update_know_each_others_keys(
    settings: ServiceSettings, staff: dict[str, str], database: Database
) -> None:
    # Without the secret an instance writes and compares what version 2.0 does.
    async with _instance(settings, idempotency_secret=None) as older, _instance(settings) as newer:
        for first, second in ((older, newer), (newer, older)):
            name = f"by older {first is older}"
            key = keyed(staff, name)
            answer = await sent(first, PATHS[0], key, name=name)
            again = await sent(second, PATHS[0], key, name=name)
            assert (again.status_code, again.content) == (201, answer.content)
            other = await sent(second, PATHS[0], key, name="second")
            assert other.json()["code"] == "idempotency_key_reused"
    digests = await database.rows("SELECT body_digest IS NULL AS is_null FROM idempotency_keys")
    assert sorted(row["is_null"] for row in digests) == [False, True]


async def test_what_an_older_version_began_goes_on(
    settings: ServiceSettings, staff: dict[str, str], database: Database
) -> None:
    async with _instance(settings, idempotency_secret=None) as older:
        assert (await sent(older, PATHS[1], keyed(staff), note="crash")).status_code == 500
    async with _instance(settings) as newer:
        assert (await sent(newer, PATHS[1], keyed(staff), note="crash")).status_code == 500
    [thing] = await database.rows("SELECT id FROM things")
    [key] = await database.rows("SELECT resource_id FROM idempotency_keys")
    assert key["resource_id"] == thing["id"]


async def test_no_fingerprint_can_be_guessed_from_the_database_alone(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    answer = await sent(client, PATHS[0], keyed(staff))
    [row] = await database.rows("SELECT fingerprint, body_digest FROM idempotency_keys")
    guessed = hashlib.sha256(b"\n" + answer.request.content).hexdigest()
    assert guessed not in row.values()
    assert row["fingerprint"] != row["body_digest"]
