"""Access tokens (RFC 9068) and refresh tokens: how they are made."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from joserfc import jwt
from joserfc.jwk import ECKey

from services.identity.models import User
from services.identity.service.keyring import TOKEN_LIFETIME, Keyring
from shared.tokens import ACCESS_TOKEN_TYPE, ALGORITHM

REFRESH_TOKEN_BYTES = 32
TOKEN_SECONDS = int(TOKEN_LIFETIME.total_seconds())


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs access tokens with the key of the moment."""

    key: ECKey
    issuer: str
    audience: str

    def access_token(self, user: User, session_id: UUID, permissions: Sequence[str]) -> str:
        """Return an access token that says who the user is and may do, for ten minutes.

        Call it while the user's row is locked. `iat` has milliseconds, so that a token issued in
        the second of a revocation is told from one issued before it.
        """
        issued = time.time()
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(user.id),
            "sid": str(session_id),
            "role": user.role,
            "organization_id": user.organization_id,
            "permissions": list(permissions),
            "iat": int(issued * 1000) / 1000,
            "exp": int(issued) + TOKEN_SECONDS,
        }
        header = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": self.key.kid}
        return jwt.encode(header, claims, self.key, algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Issues access tokens in one issuer's name for one audience."""

    keyring: Keyring
    issuer: str
    audience: str

    async def signer(self) -> TokenSigner:
        """Return what signs now.

        Ask before a transaction begins and not within one: the keys may have to be read, and a
        connection that waits for another one soon has the whole pool waiting.
        """
        return TokenSigner(await self.keyring.signing_key(), self.issuer, self.audience)


def new_refresh_token() -> str:
    """Return an opaque refresh token."""
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def hash_refresh_token(refresh_token: str) -> bytes:
    """Return what is kept of a refresh token."""
    return hashlib.sha256(refresh_token.encode()).digest()
