"""Addresses and names are one in all their spellings, and Python and PostgreSQL agree on it."""

import unicodedata

import asyncpg
import httpx
import pytest

from services.identity.service.attempt_limits import PER_ACCOUNT_AND_ADDRESS
from services.identity.tests.conftest import MINE, People, downgrade
from services.identity.tests.test_attempt_limits import sign_in
from shared.migrations import upgrade
from shared.testing import Database
from shared.text import fold

pytestmark = pytest.mark.anyio

ASSIGNED = [
    chr(number)
    for number in range(1, 0x110000)
    if unicodedata.category(chr(number)) not in ("Cn", "Cs", "Co")
]
"""What this Python's Unicode version knows: another one of PostgreSQL's may know more."""


async def test_python_and_postgresql_fold_every_character_alike(database: Database) -> None:
    # Not at the end of a word alone: a sigma looks different there.
    texts = [f"{char}{after}" for char in ASSIGNED for after in ("", "x")]
    rows = await database.rows(
        "SELECT t AS text, folded(t) AS folded FROM unnest($1::text[]) AS t", texts
    )
    differ = [row for row in rows if fold(row["text"]) != row["folded"]]
    assert differ == []


@pytest.mark.parametrize("collation", ["default", "C", "C.utf8"])
async def test_what_lower_makes_one_is_one(database: Database, collation: str) -> None:
    rows = await database.rows(
        f"SELECT t AS text FROM unnest($1::text[]) AS t"
        f' WHERE folded(lower(t COLLATE "{collation}")) <> folded(t)',
        [f"{before}{char}" for char in ASSIGNED for before in ("", "x")],
    )
    assert rows == []


async def test_folding_twice_changes_nothing() -> None:
    assert [char for char in ASSIGNED if fold(fold(char)) != fold(char)] == []


SPELLINGS = [
    ("victim@example.org", "v\u0130ct\u0130m@example.org"),
    ("victim@example.org", "VICTIM@EXAMPLE.ORG"),
    ("victim@example.org", "\uff56ictim@example.org"),
    ("victim@example.org", "vic\u00adtim@example.org"),
    ("\u03bf\u03b4\u03cc\u03c2@example.org", "\u039f\u0394\u038c\u03a3@example.org"),
    ("stra\u00dfe@example.org", "STRASSE@example.org"),
    ("\u00e4nn@example.org", "A\u0308NN@example.org"),
    ("kelvin@example.org", "\u212aelvin@example.org"),
]


@pytest.mark.parametrize(("email", "typed"), SPELLINGS)
@pytest.mark.parametrize("known", [True, False])
async def test_another_spelling_is_no_other_chance(
    client: httpx.AsyncClient, people: People, email: str, typed: str, known: bool
) -> None:
    if known:
        await people.add("client", email=email)
    for number in range(PER_ACCOUNT_AND_ADDRESS):
        spelling = (email, typed)[number % 2]
        assert (await sign_in(client, spelling, "wrong", "203.0.113.9")).status_code == 401
    for spelling in (email, typed):
        assert (await sign_in(client, spelling, "wrong", "203.0.113.9")).status_code == 429


@pytest.mark.parametrize(("email", "typed"), SPELLINGS)
async def test_one_address_makes_one_account(database: Database, email: str, typed: str) -> None:
    insert = (
        "INSERT INTO users (email, name, password_hash, role, is_organization_owner, is_active,"
        " approved_at, created_at, updated_at, version)"
        " VALUES ($1, 'N', '!', 'client', false, true, now(), now(), now(), 1)"
    )
    async with database.admin() as admin:
        await admin.execute(insert, email)
        with pytest.raises(asyncpg.UniqueViolationError):
            await admin.execute(insert, typed)


async def test_registrations_of_two_spellings_make_one_account(
    client: httpx.AsyncClient, database: Database
) -> None:
    body = {"name": "Odos", "password": "another good one"}
    statuses = []
    for local in (
        "\u03bf\u03b4\u03bf\u03c2",
        "\u03bf\u03b4\u03bf\u03c3",
        "\u039f\u0394\u039f\u03a3",
    ):
        email = f"{local}@example.org"
        answer = await client.post("/api/auth/register", json={**body, "email": email})
        statuses.append(answer.status_code)
    assert statuses == [201, 201, 201], "the answer does not reveal the account"
    assert len(await database.rows("SELECT * FROM users")) == 1


@pytest.mark.parametrize(
    "query", ["Zo\u00eb", "Zoe\u0308", "zO\u00cb", "\uff3ao\u00eb", "o\u00ebl%"]
)
@pytest.mark.parametrize("name", ["Zo\u00ebl% Nowak", "Zoe\u0308l% Nowak"])
async def test_a_name_is_found_in_every_spelling(
    client: httpx.AsyncClient, people: People, name: str, query: str
) -> None:
    admin, named = await people.add("admin"), await people.add("client", MINE, name=name)
    await people.add("client", MINE, name="Somebody else")
    answer = await client.get("/api/admin/users", params={"q": query}, headers=admin.headers)
    assert [user["id"] for user in answer.json()] == [named.id]


async def test_a_wildcard_is_a_character(client: httpx.AsyncClient, people: People) -> None:
    admin = await people.add("admin")
    for query in ("%", "_", "\uff05"):
        answer = await client.get("/api/admin/users", params={"q": query}, headers=admin.headers)
        assert answer.json() == []


async def test_users_with_one_address_keep_it_and_are_reported(
    database: Database,
    client: httpx.AsyncClient,
    people: People,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await downgrade(database, "0001")
    emails = ["vict\u00efm@example.org", "victi\u0308m@example.org"]
    older, newer = [await people.add("client", email=email) for email in emails]
    alone = await people.add("client")
    await upgrade("services.identity", database.owner_url)
    reported = f"user {newer.id} has the e-mail address of user {older.id}"
    assert reported in capsys.readouterr().out
    rows = await database.rows("SELECT id, email, is_active, shares_address FROM users ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        (older.id, emails[0], True, False),
        (newer.id, emails[1], True, True),
        (alone.id, alone.email, True, False),
    ]
    for person in (older, newer):
        answer = await client.post("/api/auth/login", json=person.credentials)
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/api/auth/me", headers=headers)).json()["id"] == person.id
    admin = await people.add("admin")
    path = f"/api/admin/users/{newer.id}"
    answer = await client.put(path, json={"email": "new@example.org"}, headers=admin.headers)
    assert answer.status_code == 200
    answer = await client.put(path, json={"email": emails[0].upper()}, headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
