"""Refusals become rows: counted beside the refusal, written by themselves, bounded."""

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from shared.db import make_engine
from shared.denials import MAX_KINDS, MAX_MINUTES, Denials
from shared.errors import Forbidden, NotFound
from shared.settings import ServiceSettings
from shared.testing import Database, Tokens, client_of
from shared.tests import sample
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

START = datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC)
BODY = {"name": "forbidden", "price": 1}


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def denials(transactions: Transactions, clock: Clock) -> Denials:
    return Denials(transactions, clock)


@pytest.fixture
def app(settings: ServiceSettings, denials: Denials) -> FastAPI:
    app = sample.create_app(settings)
    app.state.denials = denials
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


def _request(address: str, path: str = "/api/things") -> Request:
    headers = [(b"x-client-address", address.encode())]
    return Request(
        {"type": "http", "method": "GET", "path": path, "headers": headers, "path_params": {}}
    )


async def _written(database: Database, denials: Denials) -> list[dict[str, Any]]:
    await denials.write()
    return [event["data"] for event in await database.events()]


async def test_a_minute_of_one_actor_at_one_route_is_one_row(
    client: httpx.AsyncClient,
    tokens: Tokens,
    database: Database,
    denials: Denials,
    clock: Clock,
) -> None:
    someone, another = tokens.bearer(5, "staff", 7), tokens.bearer(6, "staff", 7)
    for number in range(3):
        answer = await client.put(f"/api/things/{number + 1}", json=BODY, headers=someone)
        assert answer.status_code == 403
        clock.pass_(seconds=5)
    for headers in (someone, another):
        assert (await client.post("/api/things", json=BODY, headers=headers)).status_code == 403
    assert await _written(database, denials) == [], "the minute is not over"
    clock.pass_(minutes=1)
    assert (await client.post("/api/things", json=BODY, headers=someone)).status_code == 403
    rows = await _written(database, denials)
    assert await database.rows("SELECT * FROM things") == [], "the requests were rolled back"
    told = Counter((row["actor"]["user_id"], row["new_values"]["route"]) for row in rows)
    assert told == {(5, "/api/things/{thing_id}"): 1, (5, "/api/things"): 1, (6, "/api/things"): 1}
    [repeated] = [row for row in rows if row["new_values"]["count"] == 3]
    assert (repeated["action"], repeated["entity_type"]) == ("DENIED", "request")
    assert repeated["organization_id"] == 7
    assert repeated["actor"]["role"] == "staff"
    assert repeated["new_values"] == {
        "method": "PUT",
        "route": "/api/things/{thing_id}",
        "refusal": "forbidden",
        "reason": "Not authorized. This is for the owner.",
        "count": 3,
        "first_at": START.isoformat(),
        "last_at": (START + timedelta(seconds=10)).isoformat(),
        "path_ids": {"thing_id": 3},
        "user_id": None,
        "others": False,
    }
    clock.pass_(minutes=1)
    assert len(await _written(database, denials)) == 4, "the later minute has a row of its own"
    assert len(await _written(database, denials)) == 4, "nothing is written twice"


async def test_other_refusals_leave_no_row(
    client: httpx.AsyncClient, staff: dict[str, str], denials: Denials
) -> None:
    assert (await client.get("/api/things/12", headers=staff)).status_code == 404
    assert (await client.get("/api/things/12")).status_code == 401
    assert denials.waiting == 0


async def test_a_refusal_under_an_idempotency_key_is_counted_once(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, denials: Denials
) -> None:
    headers = {**staff, "Idempotency-Key": "key-1"}
    for _ in range(2):
        answer = await client.post("/api/things", json=BODY, headers=headers)
        assert answer.status_code == 403
    await denials.write(everything=True)
    [event] = await database.events()
    assert event["data"]["new_values"]["count"] == 1, "the second was the first answer again"


async def test_a_calling_service_is_named(
    client: httpx.AsyncClient, app: FastAPI, database: Database, denials: Denials
) -> None:
    request = _request("192.0.2.1")
    request.state.calling_service = "vouchers"
    denials.count(request, Forbidden())
    await denials.write(everything=True)
    [event] = await database.events()
    assert event["data"]["actor"]["role"] == "vouchers"


async def test_text_of_a_refused_path_is_not_kept(database: Database, denials: Denials) -> None:
    request = _request("192.0.2.1")
    request.scope["path_params"] = {
        "user_id": "12",
        "card": "4242424242424242",
        "text": "anna@example.org",
    }
    denials.count(request, Forbidden())
    await denials.write(everything=True)
    [event] = await database.events()
    assert event["data"]["new_values"]["path_ids"] == {"user_id": 12}
    assert "4242" not in json.dumps(event)
    assert "anna" not in json.dumps(event)


async def test_a_flood_takes_bounded_memory_and_bounded_rows(
    database: Database, denials: Denials
) -> None:
    sent = 3 * MAX_KINDS
    for number in range(sent):
        denials.count(_request(f"10.0.{number // 256}.{number % 256}"), Forbidden())
    assert denials.waiting == MAX_KINDS + 1
    await denials.write(everything=True)
    values = [event["data"]["new_values"] for event in await database.events()]
    assert len(values) == MAX_KINDS + 1
    assert sum(row["count"] for row in values) == sent
    [others] = [row for row in values if row["others"]]
    assert others["count"] == sent - MAX_KINDS


async def test_a_flood_of_strangers_takes_no_name_from_a_user(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, denials: Denials
) -> None:
    for number in range(MAX_KINDS + 1):
        denials.count(_request(f"10.0.{number // 256}.{number % 256}"), Forbidden())
    assert (await client.post("/api/things", json=BODY, headers=staff)).status_code == 403
    await denials.write(everything=True)
    rows = [event["data"] for event in await database.events()]
    [named] = [row for row in rows if row["actor"]["user_id"] is not None]
    assert (named["actor"]["user_id"], named["new_values"]["others"]) == (5, False)


async def test_without_a_database_refusals_wait_and_memory_stays_bounded(
    settings: ServiceSettings, clock: Clock
) -> None:
    engine = make_engine(SecretStr("postgresql+asyncpg://nobody@127.0.0.1:1/none"))
    away = Denials(Transactions(engine, "carnet/sample", sample.CATALOGUE), clock)
    for _ in range(MAX_MINUTES + 5):
        away.count(_request("192.0.2.1"), Forbidden())
        clock.pass_(minutes=1)
    with pytest.raises((OSError, SQLAlchemyError)):
        await away.write()
    assert away.waiting == MAX_MINUTES
    await engine.dispose()


async def test_counting_never_fails_the_refusal(denials: Denials) -> None:
    broken = Request({"type": "http", "method": "GET", "path": "/", "headers": None})
    denials.count(broken, Forbidden())
    denials.count(_request("192.0.2.1"), NotFound())
    assert denials.waiting == 0


async def test_what_is_left_is_written_when_the_service_ends(
    settings: ServiceSettings, staff: dict[str, str], database: Database
) -> None:
    async with client_of(sample.create_app(settings)) as client:
        assert (await client.post("/api/things", json=BODY, headers=staff)).status_code == 403
        assert await database.events() == []
    [event] = await database.events()
    assert event["type"] == "sample.request.denied.v1"


async def _abort(app: FastAPI, headers: dict[str, str]) -> list[Any]:
    """Send half a body, then go away; return what the server would have sent."""
    messages: list[Any] = [
        {"type": "http.request", "body": b'{"name": "ha', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    raw = {"content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/things",
        "raw_path": b"/api/things",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in raw.items()],
        "client": ("192.0.2.1", 1234),
        "server": ("test", 80),
    }
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("key", [None, "key-1"])
async def test_an_aborted_body_is_one_line(
    app: FastAPI,
    client: httpx.AsyncClient,
    staff: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    key: str | None,
) -> None:
    capsys.readouterr()
    headers = {**staff, "Idempotency-Key": key} if key else staff
    sent = await _abort(app, headers)
    assert [message.get("status") for message in sent if "status" in message] == [499]
    written = capsys.readouterr()
    lines = (written.out + written.err).strip().splitlines()
    assert len(lines) == 1, lines
    assert "status=499" in lines[0]


async def test_the_access_log_names_the_user(
    client: httpx.AsyncClient, staff: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger().setLevel(logging.INFO)
    capsys.readouterr()
    await client.get("/api/things", headers=staff)
    await client.get("/api/things")
    named, unnamed = capsys.readouterr().out.strip().splitlines()
    assert "user_id=5" in named
    assert "user_id=None" in unnamed
