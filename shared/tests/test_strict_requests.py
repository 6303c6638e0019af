"""What is refused everywhere: unknown and repeated parameters, and keys that occur twice."""

import json

import httpx
import pytest

from shared.errors import AppError
from shared.json_reader import DuplicateKey, MalformedJson, read_json
from shared.testing import Database

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("statuss=active", "statuss", "this path takes cursor, limit, state"),
        ("Limit=1", "Limit", "this path takes cursor, limit, state"),
        ("limit%20=1", "limit ", "is not a query parameter here"),
        ("limit=1&limit=2", "limit", "must be given once"),
        ("limit=1&limit=1", "limit", "must be given once"),
        ("limit", "limit", "must be a whole number"),
        ("=1", "query", "is not a query parameter here"),
        ("_=1701353300", "_", "is not a query parameter here"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(
    client: httpx.AsyncClient, staff: dict[str, str], query: str, field: str, says: str
) -> None:
    answer = await client.get(f"/api/things?{query}", headers=staff)
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert says in error["message"]


async def test_a_path_without_parameters_refuses_them(
    client: httpx.AsyncClient, staff: dict[str, str], database: Database
) -> None:
    body = {"name": "first", "price": 1}
    answer = await client.post("/api/things?dry_run=true", json=body, headers=staff)
    assert answer.status_code == 422
    assert "this path takes none" in answer.json()["detail"]
    assert await database.rows("SELECT * FROM things") == []
    internal = await client.get("/internal/things/caller?verbose=1")
    assert internal.status_code == 422


@pytest.mark.parametrize("query", ["", "?", "?limit=5", "?limit=5&cursor="])
async def test_a_query_that_is_known_is_taken(
    client: httpx.AsyncClient, staff: dict[str, str], query: str
) -> None:
    assert (await client.get(f"/api/things{query}", headers=staff)).status_code == 200


async def test_processes_answer_monitors_whatever_they_add(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health?_=1701353300")).status_code == 200


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ('{"name": "a", "name": "b"}', "name"),
        ('{"name": "a", "name": "a"}', "name"),
        (r'{"name": "a", "\u006eame": "b"}', "name"),
        ('{"a": {"b": [1, {"c": 1, "c": 2}]}}', "a.b.1.c"),
        ('{"a": {"b": 1, "b": 2}, "a": 1}', "a.b"),
        ('[[{"": 1, "": 2}]]', "0.0."),
        (r'{"\ud800": {"x": 1, "x": 2}}', "?.x"),
    ],
)
def test_a_key_may_occur_once(content: str, path: str) -> None:
    with pytest.raises(DuplicateKey) as refusal:
        read_json(content.encode())
    assert refusal.value.detail.startswith(f"The body has {path} twice.")


def test_a_long_key_is_not_repeated_as_a_whole() -> None:
    key = "k" * 10_000
    with pytest.raises(DuplicateKey) as refusal:
        read_json(f'{{"{key}": 1, "{key}": 2}}'.encode())
    assert len(refusal.value.detail) < 400


def test_what_is_twice_in_different_objects_is_read() -> None:
    content = {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}], "b": 1}
    assert read_json(json.dumps(content).encode()) == content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": 1, "a": 2', "line 1, column 16"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1e999}', "a number is out of range"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "it is not UTF-8"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "too many digits"),
        (b"[" * 17 + b"]" * 17, "more than 16 deep"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_broken_json_is_refused_with_its_place(content: bytes, says: str) -> None:
    with pytest.raises(AppError) as refusal:
        read_json(content)
    assert type(refusal.value) is MalformedJson
    assert says in refusal.value.detail
