"""Keys and tokens for measuring one process without the other services."""

import json
import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from shared.tokens import ACCESS_TOKEN_TYPE, ALGORITHM

ISSUER = "carnet-bench"
AUDIENCE = "carnet-bench-api"
_HOUR = 3600


class Issuer:
    """Signs access tokens as identity does, and makes the keys of services."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", {"kid": "bench"})
        self._internal = ECKey.generate_key("P-256", {"kid": "bench-internal"})

    def settings(self, prefix: str) -> dict[str, str]:
        """Return the variables, with a prefix, of a process that must accept these tokens."""
        values = {
            "JWKS": json.dumps(KeySet([self._key]).as_dict(private=False)),
            "TOKEN_ISSUER": ISSUER,
            "TOKEN_AUDIENCE": AUDIENCE,
            "INTERNAL_KEY": json.dumps(self._internal.as_dict(private=True)),
            "INTERNAL_JWKS": json.dumps(KeySet([self._internal]).as_dict(private=False)),
        }
        return {f"{prefix}_{name}": value for name, value in values.items()}

    def bearer(self, user_id: int, role: str, organization_id: int | None = None) -> dict[str, str]:
        """Return the Authorization header of a user."""
        issued_at = int(time.time())
        header = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": self._key.kid}
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": "00000000-0000-4000-8000-000000000000",
            "role": role,
            "organization_id": organization_id,
            "permissions": [],
            "iat": issued_at,
            "exp": issued_at + 6 * _HOUR,
        }
        token = jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])
        return {"Authorization": f"Bearer {token}"}
