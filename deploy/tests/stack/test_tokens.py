"""A token that is not in order is refused at the gateway, and by every service behind it."""

import base64
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import SecretStr

from deploy.local.stack import Stack
from deploy.local.system import SERVICES, TOKEN_AUDIENCE, TOKEN_ISSUER
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from deploy.tests.stack.tenancy.scene import Scene
from services.identity.security.key_encryption import KeyEncryption
from shared.tokens import ACCESS_TOKEN_TYPE, ALGORITHM, MAX_TOKEN_BYTES, ServiceSigner

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

PROTECTED = {
    "identity": "/api/auth/me",
    "organizations": "/api/admin/organizations",
    "vouchers": "/api/vouchers/my",
    "payments": "/api/payments/my",
    "audit": "/api/admin/audit-logs",
}
HOUR = 3600

# What is wrong with it: (claims, header). Each is signed with the system's own key.
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "typ JWT": ({}, {"typ": "JWT"}),
    "no typ": ({}, {"typ": None}),
    "a service's typ": ({}, {"typ": "service+jwt"}),
    "no kid": ({}, {"kid": None}),
    "another kid": ({}, {"kid": "other"}),
    "kid as a path": ({}, {"kid": "../../etc/passwd"}),
    "another audience": ({"aud": "elsewhere"}, {}),
    "no audience": ({"aud": None}, {}),
    "another issuer": ({"iss": "somebody"}, {}),
    "no issuer": ({"iss": None}, {}),
    "no subject": ({"sub": None}, {}),
    "a subject of words": ({"sub": "admin"}, {}),
    "no end": ({"exp": None}, {}),
    "expired": ({"iat": -2 * HOUR, "exp": -HOUR}, {}),
    "from the future": ({"iat": HOUR, "exp": 2 * HOUR}, {}),
    "not yet": ({"nbf": HOUR}, {}),
    "oversized": ({"note": "x" * MAX_TOKEN_BYTES}, {}),
}
_INSTANTS = {"iat", "exp", "nbf"}


class Forger:
    """Creates tokens that are nearly right, with the system's signing key."""

    def __init__(self, key: ECKey, user_id: int) -> None:
        self.key = key
        self._user_id = user_id

    def token(
        self,
        claims: dict[str, Any] | None = None,
        header: dict[str, Any] | None = None,
        key: Any = None,
    ) -> str:
        """A token of the first administrator but for these; instants are seconds from now."""
        now = int(time.time())
        right: dict[str, Any] = {
            "iss": TOKEN_ISSUER,
            "aud": TOKEN_AUDIENCE,
            "sub": str(self._user_id),
            "sid": "5e6b2c0e-0000-4000-8000-000000000000",
            "role": "admin",
            "iat": 0,
            "exp": HOUR,
        }
        body = {
            name: now + value if name in _INSTANTS else value
            for name, value in (right | (claims or {})).items()
            if value is not None
        }
        head = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": self.key.kid, **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(head, body, key or self.key, algorithms=[head["alg"]])


@pytest.fixture
async def forger(stack: Stack, rows: Rows, scene: Scene) -> Forger:
    [row] = await rows(
        "SELECT id, private_key FROM identity.signing_keys"
        " WHERE private_key IS NOT NULL AND signs_from <= now() ORDER BY signs_from DESC LIMIT 1"
    )
    key_encryption = KeyEncryption(SecretStr(stack.system.signing_secret))
    return Forger(key_encryption.decrypt(row["private_key"], row["id"]), scene.cast.admin.id)


async def statuses(stack: Stack, token: str) -> dict[str, int]:
    """How a token fares at the gateway, and at each service's own port."""
    found = {}
    async with httpx.AsyncClient(timeout=30) as client:
        for name in SERVICES:
            for where, url in (("gateway", stack.address), (name, stack.system.service_url(name))):
                headers = {"Authorization": f"Bearer {token}"}
                answer = await client.get(f"{url}{PROTECTED[name]}", headers=headers)
                found[f"{where} for {name}" if where == "gateway" else name] = answer.status_code
                assert token not in answer.text
                if answer.status_code == 401:
                    assert answer.headers["www-authenticate"].startswith("Bearer")
    return found


async def test_a_right_token_counts_everywhere(forger: Forger, stack: Stack) -> None:
    assert set((await statuses(stack, forger.token())).values()) == {200}


@pytest.mark.parametrize("what", WRONG)
async def test_a_wrong_token_counts_nowhere(forger: Forger, stack: Stack, what: str) -> None:
    found = await statuses(stack, forger.token(*WRONG[what]))
    # More than a head may hold is refused before anybody reads it as a token.
    assert set(found.values()) == {401}, found


async def test_wrong_algorithms_and_confused_keys(forger: Forger, stack: Stack) -> None:
    assert forger.key.kid is not None
    stranger = ECKey.generate_key("P-256", {"kid": forger.key.kid}, private=True)
    public = forger.key.as_pem(private=False)
    right = forger.token()
    head, body, signature = right.split(".")
    tampered = forger.token({"sub": "1"}).split(".")[1]
    for token in (
        forger.token(key=stranger),
        _hs256(forger, public),
        _unsigned(forger),
        f"{head}.{tampered}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        ServiceSigner(stack.system.gateway_key).token_for("identity"),
    ):
        found = await statuses(stack, token)
        assert set(found.values()) == {401}, found


def _hs256(forger: Forger, secret: bytes) -> str:
    """The public key as if it were a shared secret (RFC 8725, 2.1)."""
    content = _content(forger, "HS256")
    mac = hmac.digest(secret, content.encode(), "sha256")
    return f"{content}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _unsigned(forger: Forger) -> str:
    return f"{_content(forger, 'none')}."


def _content(forger: Forger, algorithm: str) -> str:
    _, body, _ = forger.token().split(".")
    head = {"alg": algorithm, "typ": ACCESS_TOKEN_TYPE, "kid": forger.key.kid}
    encoded = base64.urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")
    return f"{encoded}.{body}"
