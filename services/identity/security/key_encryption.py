"""Private keys are encrypted with the signing secret, from which other keys are derived."""

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
    """Return the AES key of a base64url secret; raises ValueError unless it has 32 bytes."""
    try:
        raw = urlsafe_b64decode(secret.get_secret_value().rstrip("=").encode())
    except ValueError:
        raise ValueError("must be base64url") from None
    if len(raw) != 32:
        raise ValueError("must be base64url of exactly 32 bytes")
    return OctKey.import_key(raw)


class KeyEncryption:
    """Encrypts and decrypts private keys (JWE, AES-256-GCM)."""

    def __init__(self, secret: SecretStr) -> None:
        self._key = key_of(secret)

    def encrypt(self, key: ECKey) -> str:
        """Return the encrypted private key, bound to its key id."""
        plain = json.dumps(key.as_dict(private=True)).encode()
        header = {**_HEADER, "kid": key.kid}
        return jwe.encrypt_compact(header, plain, self._key, algorithms=_ALGORITHMS)

    def decrypt(self, encrypted_key: str, key_id: str) -> ECKey:
        """Return the private key.

        Raises ValueError or a JoseError when it was encrypted with another secret or for another
        key id.
        """
        content = jwe.decrypt_compact(encrypted_key, self._key, algorithms=_ALGORITHMS)
        if content.protected.get("kid") != key_id or content.plaintext is None:
            raise ValueError("This private key belongs to another key id.")
        return ECKey.import_key(json.loads(content.plaintext))

    def derive_key(self, purpose: str) -> bytes:
        """Return a key for another purpose: one HMAC of the secret, which is uniformly random."""
        return hmac.digest(self._key.raw_value, purpose.encode(), hashlib.sha256)
