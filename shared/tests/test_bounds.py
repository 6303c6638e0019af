"""What a request may cost before it is refused, and how long a refusal may be."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from shared.errors import MOST_ERRORS
from shared.json_reader import MAX_DEPTH, MAX_VALUES, read_json
from shared.settings import ServiceSettings
from shared.tests import sample

pytestmark = pytest.mark.anyio

LARGEST_BODY = 1024 * 1024  # bytes, as the gateway lets through
LARGEST_ANSWER = 64 * 1024  # bytes
CPU_SECONDS = 0.2  # of this whole process, the test's own client included


def filled(unit: str, joined: str = ",") -> str:
    """Return as many units as a body of the largest size holds; each `#` is the unit's number."""
    text, number = [], 0
    size = 0
    while size < LARGEST_BODY - 200:
        text.append(unit.replace("#", str(number)))
        size += len(text[-1]) + len(joined)
        number += 1
    return joined.join(text)


def bodies() -> Iterator[tuple[str, str]]:
    yield "unknown keys", "{" + filled('"key#":1') + "}"
    yield "one long key", '{"' + "k" * (LARGEST_BODY - 100) + '":1}'
    yield "long keys", "{" + ",".join(f'"{n}{"k" * 50_000}":1' for n in range(20)) + "}"
    control = r"\u0001" * 5_000
    yield "unprintable keys", "{" + ",".join(f'"{control}{n}":1' for n in range(30)) + "}"
    yield "a list of numbers", "[" + filled("1") + "]"
    yield "a list in a field", '{"name":[' + filled("1") + "]}"
    yield "objects in a list", '{"name":[' + filled("{}") + "]}"
    yield "objects with keys", '{"name":[' + filled('{"a#":{"b":1}}') + "]}"
    yield "nested objects", filled('{"a":', "") + "1" + "}" * 100
    yield "nested lists", "[" * LARGEST_BODY
    yield "lists side by side", "[" + filled("[[]]") + "]"
    yield "escaped quotes", '{"name":"' + filled('\\"', "") + '","a":[' + "1," * 10 + "1]}"
    yield "quotes that do not close", '{"name":"' + filled('\\",', "")
    yield "a fraction without end", '{"price":0.' + filled("1", "") + "}"
    yield "a number without end", '{"price":' + filled("1", "") + "}"
    yield "a text", '{"name":"' + filled("a, b; [c] {d}", " ") + '"}'
    yield "a field sent again and again", "{" + filled('"name":"a"') + "}"
    yield "as many as may be", json.dumps({f"key{n}": 1 for n in range(MAX_VALUES - 1)})


BODIES = dict(bodies())


@pytest.fixture
def app(settings: ServiceSettings) -> FastAPI:
    return sample.create_app(settings)


@dataclass
class Answer:
    """What the application answered, and the processor seconds that it took."""

    status: int = 0
    body: bytes = b""
    seconds: float = 0.0


async def ask(
    app: FastAPI,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]],
    *,
    body: bytes = b"",
    query: str = "",
) -> Answer:
    """Return the better of two answers; no client's own work is in the figure."""
    return min([await _ask(app, method, path, headers, body, query) for _ in "12"], key=_seconds)


def _seconds(answer: Answer) -> float:
    return answer.seconds


async def _ask(
    app: FastAPI,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    query: str,
) -> Answer:
    answer = Answer()

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        answer.status = message.get("status", answer.status)
        answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("192.0.2.7", 1),
        "server": ("test", 80),
    }
    started = time.process_time()
    await app(scope, receive, send)
    answer.seconds = time.process_time() - started
    return answer


def of_json(staff: dict[str, str]) -> list[tuple[str, str]]:
    return [*staff.items(), ("Content-Type", "application/json")]


@pytest.mark.parametrize("kind", BODIES)
async def test_a_large_body_costs_little_and_is_refused_in_few_words(
    app: FastAPI, staff: dict[str, str], kind: str
) -> None:
    body = BODIES[kind].encode()
    answer = await ask(app, "POST", "/api/things", of_json(staff), body=body)
    assert answer.status in (400, 413, 422), answer.body[:500]
    assert len(answer.body) < LARGEST_ANSWER
    assert answer.seconds < CPU_SECONDS
    if answer.status == 422:
        problem = json.loads(answer.body)
        assert 1 <= len(problem["errors"]) <= MOST_ERRORS
        assert problem["error_count"] >= len(problem["errors"])


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"key{number}=1" for number in range(3_000)),
        "&".join(f"limit={number}" for number in range(3_000)),
        "&" * 30_000,
        "limit=" + "9" * 30_000,
        "cursor=" + "A" * 30_000,
    ],
    ids=lambda query: query[:20],
)
async def test_a_long_query_costs_little(app: FastAPI, staff: dict[str, str], query: str) -> None:
    answer = await ask(app, "GET", "/api/things", staff.items(), query=query)
    assert answer.status == 422, answer.body[:500]
    assert len(answer.body) < LARGEST_ANSWER
    assert answer.seconds < CPU_SECONDS


@pytest.mark.parametrize(
    "many",
    [
        [(f"x-{number}", "1") for number in range(4_000)],
        [("if-match", '"1"') for _ in range(2_500)],
        [("if-match", ", " * 15_000 + "x")],
        [("cookie", "; ".join(f"a{number}=1" for number in range(3_000)))],
    ],
    ids=["names", "tags", "commas", "cookies"],
)
async def test_many_headers_cost_little(
    app: FastAPI, staff: dict[str, str], many: list[tuple[str, str]]
) -> None:
    body = json.dumps({"name": "a", "unknown": 1}).encode()
    headers = [*of_json(staff), *many]
    answer = await ask(app, "PUT", "/api/things/1", headers, body=body)
    assert answer.status == 422, answer.body
    assert answer.seconds < CPU_SECONDS


async def test_a_long_path_is_not_repeated_as_a_whole(app: FastAPI, staff: dict[str, str]) -> None:
    answer = await ask(app, "GET", "/api/things/" + "\x01" * 30_000, staff.items())
    assert answer.status == 422
    assert len(answer.body) < LARGEST_ANSWER


async def test_the_errors_are_counted(client: httpx.AsyncClient, staff: dict[str, str]) -> None:
    unknown = {f"key{number}": number for number in range(50)}
    body = {"name": "a", "price": 1, **unknown}
    problem = (await client.post("/api/things", json=body, headers=staff)).json()
    assert [error["field"] for error in problem["errors"]] == list(unknown)[:MOST_ERRORS]
    assert problem["error_count"] == 50
    assert problem["detail"].endswith(" 47 more fields are not valid.")
    one = (await client.post("/api/things", json={"name": "a"}, headers=staff)).json()
    assert (len(one["errors"]), one["error_count"]) == (1, 1)


async def test_a_field_may_have_a_name_that_utf_8_lacks(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    headers = {**staff, "Content-Type": "application/json"}
    content = r'{"name": "a", "price": 1, "\ud800": ["4242424242424242"]}'
    answer = await client.post("/api/things", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "?"


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


async def test_a_body_within_the_bounds_is_read() -> None:
    largest = {"text": ",[{" * 5_000, "list": list(range(MAX_VALUES - 3))}
    assert read_json(json.dumps(largest).encode()) == largest
    assert read_json(nested(MAX_DEPTH))
    assert read_json(b'["' + b"[" * 100 + b'"]') == ["[" * 100]
