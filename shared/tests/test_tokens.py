"""Tokens: one algorithm, one kind, our issuer and audience, of today; everything else is 401."""

import asyncio
import base64
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from shared.actors import Actor
from shared.errors import Forbidden, ServiceUnavailable, Unauthenticated
from shared.settings import ServiceSettings
from shared.testing import AUDIENCE, ISSUER, Tokens, until
from shared.tokens import (
    ACCESS_TOKEN_TYPE,
    ALGORITHM,
    LEEWAY_SECONDS,
    SERVICE_TOKEN_TYPE,
    Keys,
    ServiceSigner,
    TokenVerifier,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def verifier(settings: ServiceSettings) -> TokenVerifier:
    return TokenVerifier.from_settings(settings)


def claims(**changes: Any) -> dict[str, Any]:
    issued = int(time.time())
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "5",
        "role": "staff",
        "organization_id": 7,
        "permissions": ["view_payments"],
        "iat": issued,
        "exp": issued + 600,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def header(**changes: Any) -> dict[str, Any]:
    made = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": "test", **changes}
    return {name: value for name, value in made.items() if value is not None}


def signed(tokens: Tokens, head: dict[str, Any], body: dict[str, Any]) -> str:
    return jwt.encode(head, body, tokens.key, algorithms=[ALGORITHM])


def unsigned(head: dict[str, Any], body: dict[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in (head, body))
    return ".".join(part.decode().rstrip("=") for part in parts) + "."


async def refused(verifier: TokenVerifier, token: str) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)


async def test_a_token_becomes_its_actor(verifier: TokenVerifier, tokens: Tokens) -> None:
    actor = await verifier.verify(signed(tokens, header(), claims(sid="s1")))
    assert (actor.user_id, actor.role, actor.organization_id) == (5, "staff", 7)
    assert actor.session_id == "s1"
    assert actor.permissions == {"view_payments"}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "elsewhere"},
        {"aud": None},
        {"aud": [AUDIENCE + "x"]},
        {"sub": None},
        {"sub": "nobody"},
        {"role": None},
        {"exp": None},
        {"exp": int(time.time()) - LEEWAY_SECONDS - 2},
        {"exp": "tomorrow"},
        {"iat": None},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"permissions": 5},
    ],
    ids=",".join,
)
async def test_wrong_claims(
    verifier: TokenVerifier, tokens: Tokens, changes: dict[str, Any]
) -> None:
    body = claims()
    body.update(changes)
    body = {name: value for name, value in body.items() if value is not None}
    await refused(verifier, signed(tokens, header(), body))


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"typ": SERVICE_TOKEN_TYPE},
        {"kid": "other"},
        {"kid": None},
        {"crit": ["exp"], "exp": 1},
    ],
    ids=",".join,
)
async def test_wrong_headers(
    verifier: TokenVerifier, tokens: Tokens, changes: dict[str, Any]
) -> None:
    token = signed(tokens, header(), claims())
    made = unsigned(header(**changes), claims()).split(".")
    await refused(verifier, ".".join([*made[:2], token.rpartition(".")[2]]))
    if "crit" not in changes:
        await refused(verifier, signed(tokens, header(**changes), claims()))


async def test_foreign_keys_and_algorithms(verifier: TokenVerifier, tokens: Tokens) -> None:
    stranger = ECKey.generate_key("P-256", {"kid": "test"}, private=True)
    await refused(verifier, jwt.encode(header(), claims(), stranger, algorithms=[ALGORITHM]))
    for algorithm, key in (
        ("RS256", RSAKey.generate_key(2048, {"kid": "test"}, private=True)),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "test"}, private=True)),
        ("HS256", OctKey.generate_key(256, {"kid": "test"})),
    ):
        head = header(alg=algorithm)
        await refused(verifier, jwt.encode(head, claims(), key, algorithms=[algorithm]))


async def test_the_public_key_is_no_shared_secret(verifier: TokenVerifier, tokens: Tokens) -> None:
    for secret in (tokens.key.as_pem(private=False), tokens.jwks.encode()):
        for algorithm in ("HS256", ALGORITHM):
            content = unsigned(header(alg=algorithm), claims(role="admin")).rstrip(".")
            mac = hmac.digest(secret, content.encode(), "sha256")
            signature = base64.urlsafe_b64encode(mac).decode().rstrip("=")
            await refused(verifier, f"{content}.{signature}")


async def test_altered_unsigned_and_oversized(verifier: TokenVerifier, tokens: Tokens) -> None:
    token = signed(tokens, header(), claims())
    head, body, signature = token.split(".")
    admin = unsigned(header(), claims(role="admin")).split(".")[1]
    for forged in (
        f"{head}.{admin}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        unsigned(header(alg="none"), claims()),
        signed(tokens, header(), claims(note="x" * 9000)),
        token + "a",
        f"{head}.{body}.{signature}.{signature}.{signature}",
        "",
        "a",
        "...",
        "é.é.é",
    ):
        await refused(verifier, forged)


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){0,5}"))
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
async def test_noise_is_no_token(verifier: TokenVerifier, noise: str) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(noise)


async def test_a_deeply_nested_header(verifier: TokenVerifier) -> None:
    head = base64.urlsafe_b64encode(b"[" * 4000).decode().rstrip("=")
    await refused(verifier, f"{head}.e30.e30")


async def test_a_verified_token_is_remembered_but_not_past_its_end(tokens: Tokens) -> None:
    asked = 0

    async def fetch() -> KeySet:
        nonlocal asked
        asked += 1
        return KeySet([tokens.key])

    keys = Keys(fetch=fetch)
    keys.MAX_AGE = 0.0
    verifier = TokenVerifier(keys, ISSUER, AUDIENCE, cache_size=2)
    token = signed(tokens, header(), claims())
    for _ in range(5):
        await verifier.verify(token)
    assert asked == 1
    await TokenVerifier(keys, ISSUER, AUDIENCE).verify(token)
    await until(lambda: asked == 2)
    ended = signed(tokens, header(), claims(exp=int(time.time()) - 1))
    # Within the leeway it is valid, but never from memory.
    await verifier.verify(ended)
    await until(lambda: asked == 3)
    await verifier.verify(ended)
    await until(lambda: asked == 4)


async def test_a_rotated_key_is_fetched_once_and_noise_does_not_flood(tokens: Tokens) -> None:
    asked = 0
    published = [ECKey.generate_key("P-256", {"kid": "older"}, private=True)]

    async def fetch() -> KeySet:
        nonlocal asked
        asked += 1
        return KeySet([*published])

    keys = Keys(fetch=fetch)
    keys.MIN_AGE = 3600.0
    verifier = TokenVerifier(keys, ISSUER, AUDIENCE)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await verifier.verify(signed(tokens, header(kid=f"forged-{number}"), claims()))
    assert asked == 1
    published.append(tokens.key)
    keys.MIN_AGE = 0.0
    assert (await verifier.verify(signed(tokens, header(), claims()))).user_id == 5
    assert asked == 2


async def test_without_keys_no_token_is_verified_and_old_keys_stay_valid(tokens: Tokens) -> None:
    away = True

    async def fetch() -> KeySet:
        if away:
            raise httpx.ConnectError("identity is away")
        return KeySet([tokens.key])

    keys = Keys(fetch=fetch)
    keys.MAX_AGE = keys.MIN_AGE = 0.0
    verifier = TokenVerifier(keys, ISSUER, AUDIENCE, cache_seconds=0)
    token = signed(tokens, header(), claims())
    with pytest.raises(ServiceUnavailable):
        await verifier.verify(token)
    assert not await keys.ready()
    away = False
    assert (await verifier.verify(token)).user_id == 5
    away = True
    assert (await verifier.verify(token)).user_id == 5


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"keys": null}', "<html>"])
async def test_an_answer_without_keys_is_none(tokens: Tokens, body: str) -> None:
    answers = [body, tokens.jwks, body]

    async def fetch() -> KeySet:
        return KeySet.import_key_set(json.loads(answers.pop(0) if answers else body))

    keys = Keys(fetch=fetch)
    keys.MAX_AGE = keys.MIN_AGE = 0.0
    with pytest.raises(ServiceUnavailable):
        await keys.with_id("test")
    assert await keys.with_id("test") is not None
    for _ in range(2):
        assert await keys.with_id("test") is not None, "the old ones go on"
        await until(lambda: not answers)


async def test_while_the_issuer_hangs_nothing_waits_for_it(tokens: Tokens) -> None:
    answers = asyncio.Event()
    answers.set()
    asked = 0

    async def fetch() -> KeySet:
        nonlocal asked
        asked += 1
        await answers.wait()
        return KeySet([tokens.key])

    keys = Keys(fetch=fetch)
    assert await keys.with_id("test") is not None
    answers.clear()
    keys.MAX_AGE = 0.0
    async with asyncio.timeout(30):
        for _ in range(3):
            assert await keys.with_id("test") is not None
            assert await keys.ready()
            await asyncio.sleep(0)
    assert asked == 2, "one refresh is under way"
    keys.MAX_AGE = 300.0
    answers.set()
    assert await keys.with_id("test") is not None


async def test_service_tokens(client: httpx.AsyncClient, tokens: Tokens) -> None:
    path = "/internal/things/caller"
    name = "sample"
    key = json.dumps(tokens.service_keys["vouchers"].as_dict(private=True))
    signer = ServiceSigner(key)
    accepted = {"Authorization": f"Bearer {signer.token_for(name, 5, 'client')}"}
    answer = await client.get(path, headers=accepted)
    assert answer.json() == {"name": "vouchers", "user_id": 5, "role": "client", "sees": 0}
    impostor = _service_token(tokens, "vouchers", iss="payments", sub="payments", aud=name)
    typed = _service_token(tokens, "vouchers", typ=ACCESS_TOKEN_TYPE, aud=name)
    old = _service_token(tokens, "vouchers", aud=name, iat=1, exp=2)
    unknown = _service_token(tokens, "vouchers", kid="nobody", aud=name)
    for token in (signer.token_for("payments"), impostor, typed, old, unknown):
        answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    for headers in ({}, tokens.bearer(1, "admin"), {"Authorization": "Basic YTpi"}):
        assert (await client.get(path, headers=headers)).status_code == 401
    with_service_token = await client.get("/api/things", headers=accepted)
    assert with_service_token.status_code == 401


def _service_token(tokens: Tokens, signer: str, **changes: Any) -> str:
    issued = int(time.time())
    head = {
        "alg": ALGORITHM,
        "typ": changes.pop("typ", SERVICE_TOKEN_TYPE),
        "kid": changes.pop("kid", signer),
    }
    body = {"iss": signer, "sub": signer, "iat": issued, "exp": issued + 60, **changes}
    return jwt.encode(head, body, tokens.service_keys[signer], algorithms=[ALGORITHM])


def test_a_signer_needs_a_private_key_with_a_name(tokens: Tokens) -> None:
    public = tokens.service_keys["vouchers"].as_dict(private=False)
    nameless = ECKey.generate_key("P-256", private=True).as_dict(private=True)
    nameless.pop("kid", None)
    for key in (public, nameless):
        with pytest.raises(ValueError, match="private key"):
            ServiceSigner(json.dumps(key))


def test_permissions_hold_in_ones_own_organization_alone() -> None:
    granted = frozenset({"view_payments"})
    expected = (
        (Actor(1, "admin"), True, True),
        (Actor(2, "organization_owner", 7), True, False),
        (Actor(3, "staff", 7, granted), True, False),
        (Actor(3, "staff", 7, frozenset({"all"})), True, False),
        (Actor(4, "staff", 7), False, False),
        (Actor(5, "client", None, granted), False, False),
    )
    for actor, here, elsewhere in expected:
        assert actor.may("view_payments", 7) is here
        assert actor.may("view_payments", 8) is elsewhere
        assert actor.may("view_payments", None) is actor.is_admin
    with pytest.raises(Forbidden, match="Not authorized"):
        Actor(4, "staff", 7).require("view_payments", 7)
