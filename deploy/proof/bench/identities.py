"""Keys and tokens of our own, so that one process can be measured without the others."""

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
    """Signs access tokens as identity does, and the keys of services."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", {"kid": "bench"})
        self._internal = ECKey.generate_key("P-256", {"kid": "bench-internal"})

    def settings(self, prefix: str) -> dict[str, str]:
        """Return what a process with this prefix of variables must know to believe our tokens."""
        values = {
            "JWKS": json.dumps(KeySet([self._key]).as_dict(private=False)),
            "TOKEN_ISSUER": ISSUER,
            "TOKEN_AUDIENCE": AUDIENCE,
            "INTERNAL_KEY": json.dumps(self._internal.as_dict(private=True)),
            "INTERNAL_JWKS": json.dumps(KeySet([self._internal]).as_dict(private=False)),
        }
        return {f"{prefix}_{name}": value for name, value in values.items()}

    def bearer(self, user_id: int, role: str, organization_id: int | None = None) -> dict[str, str]:
        """Return the header of a request that this user makes."""
        moment = int(time.time())
        header = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": self._key.kid}
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": "00000000-0000-4000-8000-000000000000",
            "role": role,
            "organization_id": organization_id,
            "permissions": [],
            "iat": moment,
            "exp": moment + 6 * _HOUR,
        }
        token = jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])
        return {"Authorization": f"Bearer {token}"}
