"""Encryption of stored contents, each bound to the row in which it is stored."""

import hashlib
import hmac
import json
from typing import Any

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import SecretStr

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]


class UnreadableContent(Exception):
    """A stored content was encrypted with another secret, or belongs to another row."""


class BoundEncryption:
    """Encrypts and decrypts contents (JWE, AES-256-GCM) with a key of a secret for one purpose."""

    def __init__(self, secret: SecretStr, purpose: bytes) -> None:
        raw = hmac.digest(secret.get_secret_value().encode(), purpose, hashlib.sha256)
        self._key = OctKey.import_key(raw)

    def encrypt(self, content: Any, key: object) -> str:
        """Return a JSON content encrypted, bound to the row with this key."""
        header = {**_HEADER, "kid": str(key)}
        plain = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        return jwe.encrypt_compact(header, plain, self._key, algorithms=_ALGORITHMS)

    def decrypt(self, encrypted: str, key: object) -> Any:
        """Return the content. Raises UnreadableContent."""
        try:
            content = jwe.decrypt_compact(encrypted, self._key, algorithms=_ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise UnreadableContent(
                "The content cannot be decrypted: the secret differs."
            ) from error
        if content.protected.get("kid") != str(key) or content.plaintext is None:
            raise UnreadableContent("The content belongs to another row.")
        return json.loads(content.plaintext)
