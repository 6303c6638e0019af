"""The edge of a request: committed before the answer, problems in one shape, exact amounts."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from shared.errors import PROBLEM
from shared.settings import ServiceSettings
from shared.testing import Database, Tokens, client_of
from shared.tests import sample

pytestmark = pytest.mark.anyio

BODY = {"name": "first", "price": 399.99}


async def sent(
    client: httpx.AsyncClient, headers: dict[str, str], **changes: Any
) -> httpx.Response:
    return await client.post("/api/things", json={**BODY, **changes}, headers=headers)


async def test_an_answer_is_sent_after_its_commit(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    answer = await sent(client, staff)
    assert answer.status_code == 201, answer.text
    assert [row["name"] for row in await database.rows("SELECT name FROM things")] == ["first"]
    [event] = await database.events()
    assert event["data"]["actor"]["user_id"] == 5
    assert event["data"]["correlation_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("name", ["broken commit", "unrecorded", "crash"])
async def test_a_failed_commit_is_a_500_without_details(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, name: str
) -> None:
    answer = await sent(client, {**staff, "X-Request-ID": "request-4711"}, name=name)
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["code"] == "internal_error"
    assert problem["request_id"] == answer.headers["x-request-id"] == "request-4711"
    assert "canary" not in answer.text
    assert await database.rows("SELECT * FROM things") == []
    assert await database.events() == []


async def test_a_refusal_takes_everything_back(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    for headers in (staff, {**staff, "Idempotency-Key": "refused-1"}):
        answer = await sent(client, headers, name="too expensive")
        assert (answer.status_code, answer.json()["code"]) == (409, "too_expensive")
        assert answer.json()["detail"] == "This costs too much."
    assert await database.rows("SELECT * FROM things") == []
    assert await database.events() == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/api/things", 405, "method_not_allowed"),
        ("GET", "/api/things", 401, "unauthenticated"),
        ("GET", "/api/things/0", 422, "invalid_request"),
        ("GET", f"/api/things/{2**63}", 422, "invalid_request"),
        ("GET", f"/api/things/{2**63 - 1}", 404, "not_found"),
        ("GET", f"/api/things/{'9' * 5000}", 422, "invalid_request"),
        ("GET", "/api/things/1%00", 422, "invalid_request"),
        ("GET", "/api/things/01", 422, "invalid_request"),
        ("GET", "/api/things/%201", 422, "invalid_request"),
        ("GET", "/api/things/+1", 422, "invalid_request"),
        ("GET", "/api/things/1.0", 422, "invalid_request"),
    ],
)
async def test_every_refusal_has_the_same_shape(
    client: httpx.AsyncClient,
    staff: dict[str, str],
    method: str,
    path: str,
    status: int,
    code: str,
) -> None:
    headers = {} if status == 401 else staff
    answer = await client.request(method, path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["type"].startswith("urn:carnet:problem:")
    assert {"title", "detail", "instance"} <= problem.keys()
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/api/things", "GET, HEAD, POST"),
        ("DELETE", "/api/things", "GET, HEAD, POST"),
        ("PUT", "/api/things/in-two-steps", "POST"),
        ("HEAD", "/api/things/in-two-steps", "POST"),
    ],
)
async def test_a_method_that_a_path_lacks_gets_the_allowed_ones(
    client: httpx.AsyncClient, staff: dict[str, str], method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path, headers=staff, json={})
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"", 422),
        (b"null", 422),
        (b"[]", 422),
        (b'{"name": "a", "price": NaN}', 400),
        (b'{"name": "a", "price": 1e999999999}', 400),
        (b'{"name": "a", "price": 1, "count": 1e999999999}', 400),
        (b'{"name": "a", "price": 1e30}', 422),
        (b'{"name": "a", "price": 1.005}', 422),
        (b'{"name": "a", "price": 10000000000.00}', 422),
        (b'{"name": "a", "price": 1, "count": ' + b"9" * 10_000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b'{"name": "\xff\xfe"}', 400),
        (b'{"name": "a\\u0000b", "price": 1}', 422),
        (b'{"name": "a\\ud800b", "price": 1}', 422),
        (b'{"name": "a", "price": 1, "note": "\\u0000"}', 422),
        (b'{"name": "a", "price": 1, "note": "\\ud800"}', 422),
        (b'{"name": "a", "price": 1, "email": "a\\u0000@example.org"}', 422),
        (b'{"name": "a", "price": 1, "email": "a@' + b"b" * 300 + b'.org"}', 422),
        (b'{"name": "a\\nb", "price": 1}', 422),
        (b'{"name": "   ", "price": 1}', 422),
        (b'{"name": "a", "price": 1, "colour": "red"}', 422),
        (b'{"name": "a", "price": 1, "is_admin": true}', 422),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_bad_bodies_are_the_clients_fault(
    client: httpx.AsyncClient,
    staff: dict[str, str],
    database: Database,
    content: bytes,
    status: int,
) -> None:
    headers = {**staff, "Content-Type": "application/json"}
    async with asyncio.timeout(30):
        answer = await client.post("/api/things", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    if status == 422:
        assert answer.json()["errors"][0].keys() == {"field", "message"}
    assert await database.rows("SELECT * FROM things") == []


@pytest.mark.parametrize(
    ("kind", "coding", "status"),
    [
        ("application/json", None, 201),
        ("Application/JSON; charset=utf-8", None, 201),
        ("application/merge-patch+json", "identity", 201),
        (None, None, 415),
        ("text/plain", None, 415),
        ("text/json", None, 415),
        ("application/x-www-form-urlencoded", None, 415),
        ("application/json", "gzip", 415),
        ("application/json", "identity, br", 415),
    ],
)
async def test_a_body_is_json_and_has_its_content_type(
    client: httpx.AsyncClient,
    staff: dict[str, str],
    kind: str | None,
    coding: str | None,
    status: int,
) -> None:
    said = {"Content-Type": kind, "Content-Encoding": coding, "Idempotency-Key": "said-at-last"}
    headers = {**staff, **{name: value for name, value in said.items() if value}}
    answer = await client.post("/api/things", content=json.dumps(BODY), headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.json()["code"] == "unsupported_media_type"
        if coding:
            assert answer.headers["accept-encoding"] == "identity"
        else:
            assert answer.headers["accept"] == "application/json"
            assert "application/json" in answer.json()["detail"]
        # Nothing was done, so the key has no effect yet.
        headers = {**staff, "Idempotency-Key": "said-at-last"}
        assert (await client.post("/api/things", json=BODY, headers=headers)).status_code == 201


async def test_without_a_body_its_type_does_not_matter(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    headers = {**staff, "Content-Type": "text/plain", "Content-Encoding": "gzip"}
    assert (await client.post("/api/things", headers=headers)).status_code == 422
    assert (await client.get("/api/things", headers=headers)).status_code == 200


async def test_what_get_has_head_has(client: httpx.AsyncClient, staff: dict[str, str]) -> None:
    made = (await sent(client, staff)).json()
    for path in ("/api/things", f"/api/things/{made['id']}", "/health"):
        got = await client.get(path, headers=staff)
        head = await client.head(path, headers=staff)
        assert head.status_code == got.status_code == 200
        assert head.headers.keys() == got.headers.keys()
        assert head.headers["content-length"] == got.headers["content-length"]
    assert (await client.head("/api/things")).status_code == 401
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert "head" not in paths["/api/things"]


async def test_a_refused_body_is_not_repeated(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    answer = await sent(client, staff, password="canary-4711", price="canary-4711")
    assert answer.status_code == 422
    assert "canary" not in answer.text


@pytest.mark.parametrize("text", ["399.99", "400.00", "0.10", "9999999999.99", "0", "-0.00"])
async def test_amounts_are_exact_in_and_out(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database, text: str
) -> None:
    content = f'{{"name": "a", "price": {text}}}'
    headers = {**staff, "Content-Type": "application/json"}
    answer = await client.post("/api/things", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    written = text if "." in text else f"{text}.00"
    expected = f'"price":{written.removeprefix("-")}'
    assert expected in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert expected in (await client.get("/api/things", headers=staff)).text
    [row] = await database.rows("SELECT price FROM things")
    assert f"{row['price']:.2f}" == written.removeprefix("-")


async def test_a_note_that_looks_like_an_amount_stays_a_note(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    note = '"' + "0" * 32 + '400.00" 399.99'
    answer = await sent(client, staff, note=note)
    assert answer.json()["note"] == note


async def test_request_ids_are_taken_when_harmless(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    taken = await sent(client, {**staff, "X-Request-ID": "mobile-0123456789"})
    assert taken.headers["x-request-id"] == "mobile-0123456789"
    [event] = await database.events()
    assert event["data"]["correlation_id"] == "mobile-0123456789"
    for harmful in ("short", "a" * 129, "a b c d e f g", "x\tinjected: yes"):
        answer = await client.get("/api/things", headers={**staff, "X-Request-ID": harmful})
        assert answer.headers["x-request-id"] != harmful
        assert len(answer.headers["x-request-id"]) == 36


async def test_the_gateways_address_header_is_who_asks(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    agent = {"X-Client-Address": "203.0.113.9", "User-Agent": "a" * 2000}
    await sent(client, {**staff, **agent})
    [event] = await database.events()
    assert event["data"]["actor"]["ip_address"] == "203.0.113.9"
    assert event["data"]["actor"]["user_agent"] == "a" * 512


async def test_a_tenant_sees_its_own_rows_and_the_next_request_starts_anew(
    client: httpx.AsyncClient, tokens: Tokens
) -> None:
    mine, other = tokens.bearer(5, "staff", 7), tokens.bearer(6, "staff", 8)
    admin = tokens.bearer(1, "admin")
    made = (await sent(client, mine)).json()
    await sent(client, other, name="second")
    expected = {"mine": (mine, ["first"]), "other": (other, ["second"])}
    for _ in range(20):
        for headers, names in expected.values():
            rows = (await client.get("/api/things", headers=headers)).json()
            assert [row["name"] for row in rows] == names
    assert len((await client.get("/api/things", headers=admin)).json()) == 2
    path = f"/api/things/{made['id']}"
    assert (await client.get(path, headers=other)).status_code == 404
    assert (await client.get(path, headers=mine)).status_code == 200


async def test_conditional_changes(client: httpx.AsyncClient, staff: dict[str, str]) -> None:
    made = (await sent(client, staff)).json()
    path = f"/api/things/{made['id']}"
    etag = (await client.get(path, headers=staff)).headers["etag"]
    changed = {**BODY, "note": "new"}
    fresh = await client.put(path, json=changed, headers={**staff, "If-Match": etag})
    assert fresh.status_code == 200
    assert fresh.headers["etag"] != etag
    present = fresh.headers["etag"]
    expected = {
        etag: 412,
        f"{etag}, {present}": 200,  # each change makes the next version
        '"2"': 412,
        '"1", W/"2" ,"3"': 200,
        "*": 200,
        "5": 200,
        'W/"6"': 412,  # as a proxy that compresses leaves it
        '"06"': 412,
        '"*"': 412,
        '"of-another,server"': 412,
        ', "6",': 200,
        "nonsense": 422,
        '"unfinished': 422,
        '"1" "2"': 422,
        '*, "1"': 422,
        "": 422,
    }
    for sent_tag, status in expected.items():
        again = {**BODY, "note": sent_tag}
        answer = await client.put(path, json=again, headers={**staff, "If-Match": sent_tag})
        assert answer.status_code == status, sent_tag


async def test_if_match_may_have_several_lines(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    made = (await sent(client, staff)).json()
    for tags, status in ((('"7"', '"1"'), 200), (('"1"', '"7"'), 412)):
        headers = [*staff.items(), *(("If-Match", tag) for tag in tags)]
        changed = {**BODY, "note": tags[0]}
        answer = await client.put(f"/api/things/{made['id']}", json=changed, headers=headers)
        assert answer.status_code == status


async def test_two_who_change_at_once_both_count(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    made = (await sent(client, staff)).json()
    path = f"/api/things/{made['id']}"
    changes = [{**BODY, "note": f"note {n}"} for n in range(10)]
    answers = await asyncio.gather(
        *(client.put(path, json=change, headers=staff) for change in changes)
    )
    assert [answer.status_code for answer in answers] == [200] * 10
    events = [event["data"] for event in await database.events()]
    assert [event["entity_version"] for event in events] == list(range(1, 12))
    for before, after in pairwise(events[1:]):
        assert before["new_values"]["note"] == after["old_values"]["note"]


async def test_health_and_readiness(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "alive"}
    assert (await client.get("/health/ready")).json() == {"status": "ready"}


async def test_the_document_describes_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert "/internal/things/caller" not in document["paths"]
    assert {"Problem", "FieldError", "ValidationProblem"} <= document["components"][
        "schemas"
    ].keys()
    price = document["components"]["schemas"]["ThingRead"]["properties"]["price"]
    assert price["type"] == "number"
    assert "#/$defs/" not in json.dumps(document)


async def test_the_document_names_the_headers_of_answers(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    named = {
        (path, method, status): set(answer["headers"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for status, answer in operation["responses"].items()
    }
    thing = "/api/things/{thing_id}"
    always = {"X-Request-ID"}
    assert named["/api/things", "get", "200"] == always | {"Link"}
    assert named[thing, "get", "200"] == named[thing, "put", "200"] == always | {"ETag"}
    assert named["/api/things", "post", "201"] == always | {"Idempotent-Replayed"}
    assert named["/api/things", "post", "409"] == always | {"Idempotent-Replayed"}
    assert named[thing, "get", "422"] == always
    assert set().union(*named.values()) <= document["components"]["headers"].keys()


async def test_an_unreachable_database_is_reported(
    settings: ServiceSettings, staff: dict[str, str]
) -> None:
    nowhere = SecretStr("postgresql+asyncpg://a:b@127.0.0.1:1/nothing")
    app = sample.create_app(settings.model_copy(update={"database_url": nowhere}))
    async with client_of(app) as client:
        answer = await client.get("/api/things", headers=staff)
    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert answer.headers["retry-after"]
