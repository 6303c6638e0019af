"""Private keys at rest: encrypted with the signing secret, and what else is derived from it."""

import hashlib
import hmac
import json

from joserfc import jwe
from joserfc.jwk import ECKey, OctKey
from joserfc.util import urlsafe_b64decode
from pydantic import SecretStr

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]


def key_of(secret: SecretStr) -> OctKey:
    """Return the AES key that a base64url secret is; raises ValueError unless it has 32 bytes."""
    try:
        raw = urlsafe_b64decode(secret.get_secret_value().rstrip("=").encode())
    except ValueError:
        raise ValueError("must be base64url") from None
    if len(raw) != 32:
        raise ValueError("must be base64url of exactly 32 bytes")
    return OctKey.import_key(raw)


class KeyEncryption:
    """Locks private keys away (JWE, AES-256-GCM) and opens them again."""

    def __init__(self, secret: SecretStr) -> None:
        self._key = key_of(secret)

    def encrypt(self, key: ECKey) -> str:
        """Return the private key encrypted, bound to its key id."""
        plain = json.dumps(key.as_dict(private=True)).encode()
        header = {**_HEADER, "kid": key.kid}
        return jwe.encrypt_compact(header, plain, self._key, algorithms=_ALGORITHMS)

    def decrypt(self, locked: str, key_id: str) -> ECKey:
        """Return a private key.

        Raises ValueError or a JoseError when the secret is another one, or the row was exchanged.
        """
        opened = jwe.decrypt_compact(locked, self._key, algorithms=_ALGORITHMS)
        if opened.protected.get("kid") != key_id or opened.plaintext is None:
            raise ValueError("this private key belongs to another key id")
        return ECKey.import_key(json.loads(opened.plaintext))

    def derive_key(self, purpose: str) -> bytes:
        """Return a key for another purpose (HKDF's idea with one HMAC: the secret is uniform)."""
        return hmac.digest(self._key.raw_value, purpose.encode(), hashlib.sha256)
