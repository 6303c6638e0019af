"""Access tokens (RFC 9068) and refresh tokens: how they are created."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from joserfc import jwt
from joserfc.jwk import ECKey

from services.identity.models import SignInSession, User
from shared.tokens import ACCESS_TOKEN_TYPE, ALGORITHM

TOKEN_LIFETIME = timedelta(minutes=10)
TOKEN_SECONDS = int(TOKEN_LIFETIME.total_seconds())
REFRESH_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs access tokens with the current key."""

    key: ECKey
    issuer: str
    audience: str

    def access_token(
        self, user: User, sign_in_session: SignInSession, permissions: Sequence[str]
    ) -> str:
        """Return an access token for ten minutes, with the user's role and permissions.

        `amr` (RFC 8176) names how the user signed in, and `auth_time` (OpenID Connect Core 1.0)
        states when the user last proved who they are.

        Call it while the user's row is locked. `iat` has milliseconds, so that a token issued in
        the second of a revocation differs from one issued before it.
        """
        issued_at = time.time()
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(user.id),
            "sid": str(sign_in_session.id),
            "role": user.role,
            "organization_id": user.organization_id,
            "permissions": list(permissions),
            "amr": sign_in_session.methods,
            "auth_time": int(sign_in_session.last_authentication.timestamp()),
            "iat": int(issued_at * 1000) / 1000,
            "exp": int(issued_at) + TOKEN_SECONDS,
        }
        header = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": self.key.kid}
        return jwt.encode(header, claims, self.key, algorithms=[ALGORITHM])


def new_refresh_token() -> str:
    """Return a new opaque refresh token."""
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def hash_refresh_token(refresh_token: str) -> bytes:
    """Return the SHA-256 of a refresh token, under which it is stored."""
    return hashlib.sha256(refresh_token.encode()).digest()
