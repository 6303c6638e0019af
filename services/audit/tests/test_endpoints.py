"""Reading the trail as each kind of caller."""

import csv
import io
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.audit.tests.conftest import deliver, event
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ADMIN = "/api/admin/audit-logs"
OWN = "/api/organizations/7/audit-logs"
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def admin(tokens: Tokens) -> dict[str, str]:
    return tokens.bearer(1, "admin")


@pytest.fixture
def owner(tokens: Tokens) -> dict[str, str]:
    return tokens.bearer(2, "organization_owner", 7)


async def got(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> list[Any]:
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[Any] = answer.json()
    return rows


@pytest.mark.parametrize("suffix", ["", "/verify", "/export"])
async def test_who_may_read(
    client: httpx.AsyncClient, tokens: Tokens, admin: dict[str, str], suffix: str
) -> None:
    expected: tuple[tuple[dict[str, str], int, int], ...] = (
        ({}, 401, 401),
        (tokens.bearer(3, "client"), 403, 404),
        (tokens.bearer(4, "organization_owner", 8, ("view_audit_logs",)), 403, 404),
        (tokens.bearer(5, "staff", 7), 403, 403),
        (tokens.bearer(6, "staff", 7, ("view_audit_logs",)), 403, 200),
        (tokens.bearer(2, "organization_owner", 7), 403, 200),
        (admin, 200, 200),
    )
    for headers, everywhere, within in expected:
        assert (await client.get(ADMIN + suffix, headers=headers)).status_code == everywhere
        assert (await client.get(OWN + suffix, headers=headers)).status_code == within
    huge = f"/api/organizations/{10**30}/audit-logs{suffix}"
    assert (await client.get(huge, headers=admin)).status_code == 422


async def test_an_export_needs_a_recent_sign_in(client: httpx.AsyncClient, tokens: Tokens) -> None:
    for age, status in ((800, 200), (1000, 401)):
        moment = int(time.time()) - age
        of_admin = tokens.access(1, "admin", auth_time=moment)
        of_owner = tokens.access(2, "organization_owner", 7, auth_time=moment)
        for path, token in ((ADMIN, of_admin), (OWN, of_owner)):
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.get(f"{path}/export", headers=headers)
            assert answer.status_code == status
            assert (await client.get(path, headers=headers)).status_code == 200
            if status == 401:
                assert answer.json()["code"] == "reauthentication_required"
                assert "max_age=900" in answer.headers["WWW-Authenticate"]


async def test_a_foreign_organization_is_one_that_never_was(
    client: httpx.AsyncClient, transactions: Transactions, tokens: Tokens
) -> None:
    await deliver(transactions, event(organization_id=7))
    stranger = tokens.bearer(4, "organization_owner", 8)
    answers = [
        (await client.get(f"/api/organizations/{id_}/audit-logs", headers=stranger)).json()
        for id_ in (7, 999)
    ]
    for answer in answers:
        assert answer.pop("instance")
        assert answer.pop("request_id")
    assert answers[0] == answers[1]


async def test_rows_come_newest_first_within_the_organization(
    client: httpx.AsyncClient, transactions: Transactions, owner: dict[str, str]
) -> None:
    times = [START + timedelta(days=40 * n) for n in (1, 3, 0, 2)]
    await deliver(transactions, *(event(time=time) for time in times))
    await deliver(transactions, event(organization_id=8), event(organization_id=None))
    rows = await got(client, OWN, owner)
    shown = [datetime.fromisoformat(row["created_at"]) for row in rows]
    assert shown == sorted(times, reverse=True)
    assert rows[0]["ip_address"] == "192.0.2.7"
    assert rows[0]["old_values"] == {"price": "399.99"}
    assert len(rows[0]["hash"]) == 64


async def test_filters(
    client: httpx.AsyncClient, transactions: Transactions, admin: dict[str, str]
) -> None:
    await deliver(
        transactions,
        event("CREATE", "user", None, entity_id=4, time=START),
        event("UPDATE", "voucher", 7, entity_id=4, time=START + timedelta(days=1)),
        event(
            "UPDATE",
            "voucher",
            8,
            entity_id=5,
            correlation_id="request-2",
            actor={"user_id": 6, "role": "client"},
            time=START + timedelta(days=2),
        ),
    )
    expected: dict[str, list[int]] = {
        "": [5, 4, 4],
        "user_id=6": [5],
        "organization_id=7": [4],
        "action=CREATE": [4],
        "entity_type=voucher&entity_id=5": [5],
        "entity_id=4": [4, 4],
        "correlation_id=request-2": [5],
        "from=2026-03-02T00:00:00Z": [5, 4],
        "to=2026-03-02T00:00:00Z": [4],
        "from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z": [4],
        "action=create": [4],
        "action=NOTHING": [],
    }
    for query, entities in expected.items():
        rows = await got(client, f"{ADMIN}?{query}", admin)
        assert [row["entity_id"] for row in rows] == entities, query


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-03-01T00:00:00",
        "user_id=0",
        f"entity_id={2**63}",
        "action=%00",
        "cursor=bm9wZQ",
        "cursor=WzFd",
        "cursor=WzEsIDIsIDNd",
        "cursor=WzkyMjMzNzIwMzY4NTQ3NzU4MDcsIDFd",
        "limit=0",
        "limit=201",
    ],
)
async def test_bad_questions_are_answered_with_422(
    client: httpx.AsyncClient, admin: dict[str, str], query: str
) -> None:
    answer = await client.get(f"{ADMIN}?{query}", headers=admin)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]


async def test_pages_meet_every_row_once_across_months_and_equal_times(
    client: httpx.AsyncClient, transactions: Transactions, owner: dict[str, str]
) -> None:
    times = [START + timedelta(days=20 * (n // 4)) for n in range(21)]
    await deliver(transactions, *(event(entity_id=n + 1, time=t) for n, t in enumerate(times)))
    await deliver(transactions, *(event(organization_id=8, time=t) for t in times))
    seen: list[int] = []
    path: str | None = f"{OWN}?limit=4&entity_type=voucher_type"
    while path:
        answer = await client.get(path, headers=owner)
        seen += [row["entity_id"] for row in answer.json()]
        path = answer.links.get("next", {}).get("url")
    assert seen == list(range(21, 0, -1))


async def test_every_reading_is_itself_recorded(
    client: httpx.AsyncClient, database: Database, owner: dict[str, str], admin: dict[str, str]
) -> None:
    agent = {"User-Agent": "auditor/1", "X-Client-Address": "198.51.100.3"}
    await client.get(f"{OWN}?action=READ", headers={**owner, **agent})
    await client.get(f"{OWN}/export?format=ndjson", headers=owner)
    await client.get(f"{OWN}/verify", headers=owner)
    await client.get(ADMIN, headers=admin)
    await client.get("/api/organizations/8/audit-logs", headers=owner)
    events = [event["data"] for event in await database.events()]
    told = [(e["action"], e["organization_id"], e["actor"]["user_id"]) for e in events]
    assert told == [("READ", 7, 2)] * 3 + [("READ", None, 1)]
    assert [e["new_values"]["how"] for e in events] == [
        "list",
        "export as ndjson",
        "verify",
        "list",
    ]
    assert events[0]["new_values"]["filters"] == {"action": "READ", "organization_id": 7}
    assert events[0]["actor"]["ip_address"] == "198.51.100.3"
    assert events[0]["actor"]["user_agent"] == "auditor/1"


async def test_one_request_is_followed_across_services(
    client: httpx.AsyncClient, transactions: Transactions, admin: dict[str, str]
) -> None:
    told = [event("PURCHASE", "voucher"), event("SUCCEED", "payment_transaction")]
    await deliver(transactions, *told, event(correlation_id="another"))
    rows = await got(client, f"{ADMIN}?correlation_id=request-1", admin)
    assert [row["action"] for row in rows] == ["SUCCEED", "PURCHASE"]


DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1"]


async def test_an_export_is_safe_to_open_in_a_spreadsheet(
    client: httpx.AsyncClient, transactions: Transactions, owner: dict[str, str]
) -> None:
    actors = [{"user_id": 5, "role": "client", "user_agent": text} for text in DANGEROUS]
    await deliver(transactions, *(event(actor=actor) for actor in actors))
    answer = await client.get(f"{OWN}/export?format=csv", headers=owner)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["user_agent"] for row in rows] == [f"'{text}" for text in reversed(DANGEROUS)]
    assert json.loads(rows[0]["new_values"]) == {"price": "400.00"}


async def test_an_export_begins_with_a_byte_order_mark_on_request(
    client: httpx.AsyncClient,
    transactions: Transactions,
    owner: dict[str, str],
    admin: dict[str, str],
) -> None:
    actor = {"user_id": 5, "role": "client", "user_agent": "Praxis Grüße"}
    await deliver(transactions, event(actor=actor))
    for base, who in ((OWN, owner), (ADMIN, admin)):
        marked = await client.get(f"{base}/export?format=csv&bom=true", headers=who)
        plain = await client.get(f"{base}/export?format=csv", headers=who)
        assert marked.content.startswith(b"\xef\xbb\xbfid,")
        assert plain.content.startswith(b"id,")
        assert marked.content.decode("utf-8-sig").splitlines()[0] == plain.text.splitlines()[0]
        assert "Praxis Grüße" in marked.text
    refused = await client.get(f"{OWN}/export?format=ndjson&bom=true", headers=owner)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "bom"


async def test_an_export_of_many_rows_is_whole(
    client: httpx.AsyncClient, transactions: Transactions, owner: dict[str, str]
) -> None:
    buyer = {"name": "Anna", "email": "anna@example.org"}
    for _ in range(3):
        batch = [event(new_values={"buyer": buyer, "client_id": 5}) for _ in range(900)]
        await deliver(transactions, *batch)
    answer = await client.get(f"{OWN}/export?format=ndjson", headers=owner)
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["position"] for row in rows] == list(range(2700, 0, -1))
    assert all(row["new_values"]["buyer"] == buyer for row in rows)
