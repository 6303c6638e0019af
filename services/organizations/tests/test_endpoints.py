"""The organizations API for each kind of caller."""

from typing import Any

import httpx
import pytest

from services.organizations.tests.conftest import Identity
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

NEW = {
    "name": "Zażółć Praxis",
    "owner_email": "owner@example.org",
    "owner_name": "Olga",
    "owner_password": "correct horse battery",
    "timezone": "Europe/Warsaw",
    "currency": "PLN",
}


async def found(client: httpx.AsyncClient, admin: dict[str, str], **changes: Any) -> dict[str, Any]:
    answer = await client.post("/api/admin/organizations", json={**NEW, **changes}, headers=admin)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_founding_answers_with_the_owner_and_leaves_one_event(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database
) -> None:
    made = await found(client, admin)
    assert made["slug"] == "zazolc-praxis"
    assert made["owner"]["organization_id"] == made["id"]
    [event] = await database.events()
    assert event["type"] == "organizations.organization.created.v1"
    assert event["data"]["actor"]["user_id"] == 1
    assert event["data"]["organization_id"] == made["id"]
    assert event["data"]["new_values"]["currency"] == "PLN"
    assert await database.rows("SELECT * FROM foundings") == []


async def test_the_owners_password_is_kept_nowhere(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database, identity: Identity
) -> None:
    identity.lose_answer = True
    headers = {**admin, "Idempotency-Key": "found-1-once"}
    answer = await client.post("/api/admin/organizations", json=NEW, headers=headers)
    assert answer.status_code == 503
    everything = [
        await database.rows(f"SELECT * FROM {table}")
        for table in ("foundings", "organizations", "outbox", "idempotency_keys")
    ]
    assert everything[0]
    assert "correct horse" not in str(everything)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Praxis", "praxis"), ("Терапия", "terapiia"), ("治療", "zhi-liao"), ("🙂", "organization")],
)
async def test_slugs_come_from_any_script(
    client: httpx.AsyncClient, admin: dict[str, str], name: str, slug: str
) -> None:
    assert (await found(client, admin, name=name))["slug"] == slug
    second = await found(client, admin, name=name, owner_email="second@example.org")
    assert second["slug"] == f"{slug}-2"


async def test_a_taken_email_leaves_no_organization(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database
) -> None:
    await found(client, admin)
    answer = await client.post("/api/admin/organizations", json=NEW, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
    assert len(await database.rows("SELECT * FROM organizations")) == 1
    assert await database.rows("SELECT * FROM foundings") == []


async def test_what_identity_refuses_names_the_owners_field(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    body = {**NEW, "owner_password": "password12"}
    answer = await client.post("/api/admin/organizations", json=body, headers=admin)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "owner_password"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("currency", "pln"),
        ("currency", "ABC"),
        ("currency", "XAU"),
        ("timezone", "CET+1"),
        ("logo_url", "javascript:alert(1)"),
        ("logo_url", "ftp://example.org/logo.png"),
        ("logo_url", "//example.org/logo.png"),
        ("logo_url", "https://"),
        ("logo_url", "https://example.org/a\n.png"),
        ("logo_url", "https://example.org:8443/logo.png"),
        ("logo_url", "https://user:secret@example.org/logo.png"),
        ("logo_url", "http://localhost/logo.png"),
        ("logo_url", "http://payments/internal/charges"),
        ("logo_url", "http://169.254.169.254/latest/meta-data"),
        ("logo_url", "http://2130706433/logo.png"),
        ("logo_url", "http://[::1]/logo.png"),
        ("logo_url", "http://[64:ff9b::7f00:1]/logo.png"),
        ("logo_url", f"https://example.org/{'a' * 2000}"),
        ("name", "a\x00b"),
        ("name", " "),
        ("slug", "mine"),
        ("locale", "german"),
        ("locale", "DE"),
        ("locale", "de_AT"),
    ],
)
async def test_bad_fields_are_named(
    client: httpx.AsyncClient, admin: dict[str, str], field: str, value: str
) -> None:
    answer = await client.post(
        "/api/admin/organizations", json={**NEW, field: value}, headers=admin
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_a_logo_may_have_the_long_address_of_a_store(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    logo = f"https://example.org/logo.png?signature={'a' * 1000}"
    assert (await found(client, admin, logo_url=logo))["logo_url"] == logo


async def test_only_administrators_found_and_list(
    client: httpx.AsyncClient, tokens: Tokens
) -> None:
    owner = tokens.bearer(2, "organization_owner", 7)
    for headers, expected in (({}, 401), (owner, 403), (tokens.bearer(3, "client"), 403)):
        answer = await client.post("/api/admin/organizations", json=NEW, headers=headers)
        assert answer.status_code == expected
        assert (await client.get("/api/admin/organizations", headers=headers)).status_code == (
            expected
        )
    refused = await client.get("/api/admin/organizations", headers=owner)
    assert refused.json()["detail"].startswith("Not authorized")


async def test_members_see_their_organization_and_strangers_see_nothing(
    client: httpx.AsyncClient, admin: dict[str, str], tokens: Tokens
) -> None:
    made = await found(client, admin)
    path = f"/api/organizations/{made['id']}"
    member = tokens.bearer(5, "client", made["id"])
    stranger = tokens.bearer(6, "organization_owner", made["id"] + 1)
    assert (await client.get(path, headers=member)).json()["name"] == NEW["name"]
    foreign = await client.get(path, headers=stranger)
    never = await client.get("/api/organizations/999999", headers=stranger)
    ignoring = {"instance", "request_id"}
    assert foreign.status_code == never.status_code == 404
    assert {k: v for k, v in foreign.json().items() if k not in ignoring} == {
        k: v for k, v in never.json().items() if k not in ignoring
    }


async def test_who_may_change_settings(
    client: httpx.AsyncClient, admin: dict[str, str], tokens: Tokens
) -> None:
    made = await found(client, admin)
    path, change = f"/api/organizations/{made['id']}", {"address": "Main Street 1"}
    owner = tokens.bearer(2, "organization_owner", made["id"])
    staff = tokens.bearer(3, "staff", made["id"])
    allowed = tokens.bearer(4, "staff", made["id"], ("manage_organization",))
    stranger = tokens.bearer(5, "organization_owner", made["id"] + 1)
    expected: tuple[tuple[dict[str, str], int], ...] = (
        (owner, 200),
        (staff, 403),
        (allowed, 200),
        (stranger, 404),
        (admin, 200),
        ({}, 401),
    )
    for headers, status in expected:
        assert (await client.put(path, json=change, headers=headers)).status_code == status
    closing = await client.put(path, json={"is_active": False}, headers=owner)
    assert closing.status_code == 422


async def test_a_rename_keeps_the_slug_and_a_stale_etag_is_refused(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database
) -> None:
    made = await found(client, admin)
    path = f"/api/admin/organizations/{made['id']}"
    etag = (await client.get(path, headers=admin)).headers["etag"]
    headers = {**admin, "If-Match": etag}
    renamed = await client.put(path, json={"name": "New Name"}, headers=headers)
    assert renamed.json()["slug"] == made["slug"]
    assert (await client.put(path, json={"name": "Other"}, headers=headers)).status_code == 412
    assert (await client.put(path, json={"name": None}, headers=admin)).status_code == 422
    changed = (await database.events())[-1]["data"]
    assert (changed["old_values"], changed["new_values"]) == (
        {"name": NEW["name"]},
        {"name": "New Name"},
    )


async def test_deactivation_is_one_event_and_repeatable(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database
) -> None:
    made = await found(client, admin)
    path = f"/api/admin/organizations/{made['id']}"
    for _ in range(2):
        assert (await client.delete(path, headers=admin)).status_code == 200
    types = [event["type"].rpartition(".organization.")[2] for event in await database.events()]
    assert types == ["created.v1", "deactivated.v1"]
    await client.put(path, json={"is_active": True}, headers=admin)
    assert (await client.get(path, headers=admin)).json()["is_active"] is True


async def test_pages_follow_the_link(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    for number in range(5):
        await found(client, admin, name=f"Org {number}", owner_email=f"o{number}@example.org")
    seen: list[str] = []
    path: str | None = "/api/admin/organizations?limit=2&q=org"
    while path:
        answer = await client.get(path, headers=admin)
        seen += [row["name"] for row in answer.json()]
        path = answer.links.get("next", {}).get("url")
    assert seen == [f"Org {number}" for number in reversed(range(5))]
    bad = await client.get("/api/admin/organizations?cursor=bm9wZQ", headers=admin)
    assert bad.status_code == 422


async def test_an_organization_is_found_in_every_spelling_of_its_name(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    names = ("Ge\u0301nie 100%", "G\u00c9NIE 50%")
    for number, name in enumerate(names):
        await found(client, admin, name=name, owner_email=f"o{number}@example.org")
    path = "/api/admin/organizations"
    for query, expected in (
        ("g\u00e9nie", names[::-1]),
        ("ge\u0301NIE", names[::-1]),
        ("0%", names[::-1]),
        ("\uff05", names[::-1]),
        ("1%", ()),
        ("_", ()),
    ):
        answer = await client.get(path, params={"q": query}, headers=admin)
        assert [row["name"] for row in answer.json()] == list(expected), query


async def test_internal_routes_take_service_tokens_only(
    client: httpx.AsyncClient, admin: dict[str, str], tokens: Tokens
) -> None:
    made = await found(client, admin)
    path = f"/internal/organizations/{made['id']}"
    vouchers = tokens.service_bearer("vouchers", "organizations")
    elsewhere = tokens.service_bearer("vouchers", "payments")
    assert (await client.get(path, headers=vouchers)).json()["version"] == 1
    by_slug = await client.get(
        "/internal/organizations", params={"slug": made["slug"]}, headers=vouchers
    )
    assert by_slug.json()["id"] == made["id"]
    for headers in ({}, admin, elsewhere):
        assert (await client.get(path, headers=headers)).status_code == 401


async def test_an_organization_has_a_language_of_messages(
    client: httpx.AsyncClient, admin: dict[str, str], database: Database
) -> None:
    made = await found(client, admin)
    assert made["locale"] is None
    path = f"/api/admin/organizations/{made['id']}"
    answer = await client.put(path, json={"locale": "de-AT"}, headers=admin)
    assert (answer.status_code, answer.json()["locale"]) == (200, "de-AT")
    event = (await database.events())[-1]
    assert event["data"]["new_values"] == {"locale": "de-AT"}
