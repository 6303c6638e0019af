"""Who gets past the gateway: only a current access token of ours, and public paths without one."""

import base64
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from gateway.tests.conftest import (
    AUDIENCE,
    DEAD,
    ISSUER,
    JWKS,
    SIGNING_KEY,
    Stack,
    bearer,
    open_stack,
    raw_upstream,
    read_head,
    token,
)

pytestmark = pytest.mark.anyio

PROTECTED = "/api/vouchers/my"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    body = token().split(".")[1]
    return f"{encoded({'alg': algorithm, 'typ': 'at+jwt', 'kid': 'test-1'})}.{body}."


def confused(secret: bytes) -> str:
    """Signed with HS256, our public key as the secret."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "1", "role": "admin", "iat": now}
    header = {"alg": "HS256", "typ": "at+jwt", "kid": "test-1"}
    signed = f"{encoded(header)}.{encoded({**claims, 'exp': now + 600})}"
    digest = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def altered(**changes: Any) -> str:
    head, body, signature = token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return f"{head}.{encoded({**claims, **changes})}.{signature}"


def flipped() -> str:
    text = token()
    middle = text.rindex(".") + 10
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


STRANGER = ECKey.generate_key("P-256", parameters={"kid": "test-1"}, private=True)
NOW = int(time.time())

BAD_TOKENS = {
    "altered claims": altered(role="admin"),
    "altered signature": flipped(),
    "no signature": token().rsplit(".", 1)[0] + ".",
    "two parts": token().rsplit(".", 1)[0],
    "expired": token(exp=NOW - 60, iat=NOW - 660),
    "without an end": token(exp=None),
    "from the future": token(iat=NOW + 3600, exp=NOW + 7200),
    "not yet": token(nbf=NOW + 3600),
    "another audience": token(aud="other-api"),
    "no audience": token(aud=None),
    "another issuer": token(iss="other"),
    "no subject": token(sub=None),
    "subject not a number": token(sub="admin"),
    "another type": token(header={"typ": "JWT"}),
    "a service's type": token(header={"typ": "service+jwt"}),
    "unknown key": token(header={"kid": "other"}),
    "key id as a path": token(header={"kid": "../../etc/passwd"}),
    "stranger's key": token(STRANGER),
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg empty": unsigned(""),
    "HS256 with the public key": confused(json.dumps(JWKS["keys"][0]).encode()),
    "HS256 with the public PEM": confused(SIGNING_KEY.as_pem(private=False)),
    "too large": token(note="x" * 10_000),
    "not a token": "no-token",
    "dots": "..",
    "deep nesting": base64.urlsafe_b64encode(b"[" * 5001).decode() + ".e30.x",
    "not UTF-8 inside": base64.urlsafe_b64encode(b"\xff\xfe").decode() + ".e30.x",
}


@pytest.mark.parametrize("text", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
async def test_bad_tokens_stop_before_the_service(stack: Stack, text: str) -> None:
    response = await stack.client.get(PROTECTED, headers=bearer(text))
    assert response.status_code == 401, response.text
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unauthenticated"
    assert text not in response.text
    assert stack.upstream.requests == []


@pytest.mark.parametrize(
    "authorization",
    # The token's name must not be the token: two processes that collect tests make two.
    [None, "", "Bearer", "Basic dTpw", "Token x", pytest.param(token(), id="a token alone")],
)
async def test_protected_paths_need_a_bearer_token(stack: Stack, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = await stack.client.get(PROTECTED, headers=headers)
    assert response.status_code == 401
    assert "www-authenticate" in response.headers
    assert stack.upstream.requests == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_good_token_passes_untouched(stack: Stack, scheme: str) -> None:
    authorization = f"{scheme} {token()}"
    response = await stack.client.get(PROTECTED, headers={"Authorization": authorization})
    assert response.status_code == 200
    assert stack.upstream.last_headers["authorization"] == authorization


@pytest.mark.parametrize(
    "path", ["/api/auth/login", "/api/auth/refresh", "/api/payments/webhooks/stripe"]
)
async def test_public_paths_take_no_notice_of_tokens(stack: Stack, path: str) -> None:
    for headers in ({}, bearer("stale")):
        assert (await stack.client.post(path, headers=headers)).status_code == 200


async def test_unreachable_keys_are_our_fault_not_the_clients() -> None:
    async with open_stack(jwks_url=f"{DEAD}/jwks.json") as stack:
        response = await stack.client.get(PROTECTED, headers=bearer())
        assert response.status_code == 503
        assert response.headers["retry-after"].isdigit()
        assert stack.upstream.requests == []


async def test_keys_are_read_from_identity_once() -> None:
    reads = 0

    async def handler(reader: Any, writer: Any) -> None:
        nonlocal reads
        await read_head(reader)
        reads += 1
        body = json.dumps(JWKS).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with raw_upstream(handler) as url, open_stack(jwks_url=url) as stack:
        for _ in range(3):
            response: httpx.Response = await stack.client.get(PROTECTED, headers=bearer())
            assert response.status_code == 200
    assert reads == 1
