"""Signing keys: encrypted at rest, published before they sign, rotated without a 401."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import httpx
import pytest
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from pydantic import SecretStr

from services.identity.app import create_app
from services.identity.keys import run
from services.identity.security.key_encryption import KeyEncryption
from services.identity.service import keyring
from services.identity.service.cleanup import delete_expired
from services.identity.service.keyring import Keyring
from services.identity.settings import KeySettings, Settings
from services.identity.tests.conftest import People, Person
from shared.testing import AUDIENCE, ISSUER, Database, client_of
from shared.tokens import Keys, TokenVerifier
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that starts without any key and reads its keys each time."""
    app = create_app(settings)
    app.state.resources.keyring.max_age = 0
    async with client_of(app) as client:
        yield client


async def _sign_in(client: httpx.AsyncClient, person: Person) -> str:
    answer = await client.post("/api/auth/login", json=person.credentials)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


async def _me(client: httpx.AsyncClient, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return (await client.get("/api/auth/me", headers=headers)).status_code


async def test_the_first_start_makes_a_key(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    person = await people.add("client")
    token = await _sign_in(client, person)
    answer = await client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert answer.headers["etag"]
    published = answer.json()["keys"]
    assert [set(key) for key in published] == [{"kid", "use", "alg", "kty", "crv", "x", "y"}]

    async def fetch() -> KeySet:
        return KeySet.import_key_set(answer.json())

    actor = await TokenVerifier(Keys(fetch=fetch), ISSUER, AUDIENCE).verify(token)
    assert actor.user_id == person.id
    [row] = await database.rows("SELECT * FROM signing_keys")
    assert row["private_key"].count(".") == 4, "a JWE"
    assert await _me(client, token) == 200


async def test_many_instances_start_with_one_key(
    settings: Settings, database: Database, transactions: Transactions
) -> None:
    key_encryption = KeyEncryption(settings.signing_secret)
    ids: list[str | None] = []

    async def start() -> None:
        ids.append((await Keyring(transactions, key_encryption).signing_key()).kid)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(start)
    assert len(set(ids)) == 1
    assert len(await database.rows("SELECT * FROM signing_keys")) == 1


async def test_a_rotation_causes_no_401(
    client: httpx.AsyncClient,
    people: People,
    settings: Settings,
    transactions: Transactions,
    database: Database,
) -> None:
    person = await people.add("client")
    old = await _sign_in(client, person)
    keys = KeySettings(database_url=database.url, signing_secret=settings.signing_secret)
    lines = await run(transactions, keys, ["rotate"])
    assert ["waiting" in line for line in lines] == [True, False]
    published = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert len(published) == 2
    waiting = await _sign_in(client, person)
    assert _kid(waiting) == _kid(old), "published, but not in use yet"
    await _pass(database, keyring.PUBLICATION_LEAD)
    new = await _sign_in(client, person)
    assert _kid(new) == published[0]["kid"] != _kid(old)
    for token in (old, waiting, new):
        assert await _me(client, token) == 200
    await _pass(database, keyring.VERIFICATION_PERIOD)
    published = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert [key["kid"] for key in published] == [_kid(new)]
    await delete_expired(transactions)
    rows = await database.rows("SELECT * FROM signing_keys ORDER BY signs_from")
    assert [row["private_key"] is None for row in rows] == [True, False]
    lines = await run(transactions, keys, ["list"])
    assert [line.split()[1] for line in lines] == ["published", "retired"]


async def test_a_second_rotation_overtakes_the_first(
    client: httpx.AsyncClient,
    people: People,
    settings: Settings,
    transactions: Transactions,
    database: Database,
) -> None:
    person = await people.add("client")
    await _sign_in(client, person)
    keys = KeySettings(database_url=database.url, signing_secret=settings.signing_secret)
    await run(transactions, keys, ["rotate"])
    await run(transactions, keys, ["rotate", "--after", "0"])
    rows = await database.rows("SELECT id FROM signing_keys WHERE published_until IS NULL")
    assert _kid(await _sign_in(client, person)) == rows[0]["id"]
    await _pass(database, keyring.PUBLICATION_LEAD)
    token = await _sign_in(client, person)
    assert _kid(token) == rows[0]["id"], "the one that was overtaken never signs"
    assert await _me(client, token) == 200


def _kid(token: str) -> str:
    header = token.split(".")[0]
    kid: str = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    return kid


async def _pass(database: Database, time: timedelta) -> None:
    """Let time pass for the keys: everything in their rows moves back."""
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE signing_keys SET signs_from = signs_from - $1::interval,"
            " published_until = published_until - $1::interval",
            time,
        )


async def test_another_secret_opens_nothing_and_the_service_is_not_ready(
    client: httpx.AsyncClient, people: People, settings: Settings
) -> None:
    await _sign_in(client, await people.add("client"))
    assert (await client.get("/health/ready")).status_code == 200
    secret = SecretStr(base64.urlsafe_b64encode(b"x" * 32).decode())
    changed = settings.model_copy(update={"signing_secret": secret})
    async with client_of(create_app(changed)) as other:
        answer = await other.get("/health/ready")
        assert (answer.status_code, answer.json()["missing"]) == (503, ["sign-in keys"])


async def test_a_private_key_is_bound_to_its_row(settings: Settings) -> None:
    key_encryption = KeyEncryption(settings.signing_secret)
    key = ECKey.generate_key("P-256", {"kid": "one"}, private=True)
    locked = key_encryption.encrypt(key)
    assert key_encryption.decrypt(locked, "one").as_dict(private=True) == key.as_dict(private=True)
    with pytest.raises(ValueError, match="another key id"):
        key_encryption.decrypt(locked, "two")
    with pytest.raises((JoseError, ValueError)):
        key_encryption.decrypt(locked[:-8] + "AAAAAAAA", "one")


@pytest.mark.parametrize("secret", ["", "short", "ż" * 43, "A" * 44])
async def test_a_weak_secret_is_refused_without_being_shown(
    settings: Settings, secret: str
) -> None:
    known = {
        name: getattr(settings, name) for name in Settings.model_fields if name != "signing_secret"
    }
    with pytest.raises(ValueError, match="base64url") as refused:
        Settings(**known, signing_secret=secret)
    assert not secret or f"'{secret}'" not in str(refused.value)
