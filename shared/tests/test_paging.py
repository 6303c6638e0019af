"""Keyset pages: every row once, even if rows are added meanwhile; forged cursors are refused."""

import base64
import json
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def add(client: httpx.AsyncClient, headers: dict[str, str], name: str) -> None:
    body = {"name": name, "price": 1}
    assert (await client.post("/api/things", json=body, headers=headers)).status_code == 201


async def test_pages_meet_every_row_once_while_others_are_added(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    for number in range(7):
        await add(client, staff, f"thing {number}")
    seen: list[str] = []
    path: str | None = "/api/things?limit=3&state=open"
    while path:
        answer = await client.get(path, headers=staff)
        seen += [row["name"] for row in answer.json()]
        path = answer.links.get("next", {}).get("url")
        assert path is None or "state=open" in path
        await add(client, staff, f"added after {len(seen)}")
    assert seen == [f"thing {number}" for number in reversed(range(7))]


async def test_a_full_last_page_has_no_next(
    client: httpx.AsyncClient, staff: dict[str, str]
) -> None:
    for number in range(2):
        await add(client, staff, f"thing {number}")
    answer = await client.get("/api/things?limit=2", headers=staff)
    assert len(answer.json()) == 2
    assert "link" not in answer.headers


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "é",
        "a" * 501,
        cursor({}),
        cursor([]),
        cursor([1, 2]),
        cursor(["1"]),
        cursor([1.5]),
        cursor([True]),
        cursor([None]),
        cursor([2**63]),
        cursor([-(2**63)]),
        base64.urlsafe_b64encode(b"[" * 350).decode(),
    ],
    ids=lambda text: text[:20],
)
async def test_forged_cursors_are_refused(
    client: httpx.AsyncClient, staff: dict[str, str], text: str
) -> None:
    answer = await client.get("/api/things", params={"cursor": text}, headers=staff)
    assert answer.status_code == (422 if text else 200), answer.text


@pytest.mark.parametrize("limit", ["0", "201", "-1", "1.5", "x"])
async def test_limits_are_bounded(
    client: httpx.AsyncClient, staff: dict[str, str], limit: str
) -> None:
    answer = await client.get("/api/things", params={"limit": limit}, headers=staff)
    assert answer.status_code == 422
