"""The contents of messages that wait are encrypted: some links are as good as passwords.

See docs/decisions/0044-mail-leaves-through-a-queue.md.
"""

import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import SecretStr

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]
_PURPOSE = b"carnet mail"


class UnreadableContent(Exception):
    """A stored content was encrypted with another secret, or belongs to another message."""


class MailEncryption:
    """Encrypts and decrypts contents (JWE, AES-256-GCM) with a key of a secret's own."""

    def __init__(self, secret: SecretStr) -> None:
        raw = hmac.digest(secret.get_secret_value().encode(), _PURPOSE, hashlib.sha256)
        self._key = OctKey.import_key(raw)

    def encrypt(self, content: Any, key: UUID) -> str:
        """Return a JSON content encrypted, bound to the message with this key."""
        header = {**_HEADER, "kid": str(key)}
        plain = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        return jwe.encrypt_compact(header, plain, self._key, algorithms=_ALGORITHMS)

    def decrypt(self, encrypted: str, key: UUID) -> Any:
        """Return the content. Raises UnreadableContent."""
        try:
            content = jwe.decrypt_compact(encrypted, self._key, algorithms=_ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise UnreadableContent(
                "The content cannot be decrypted: the secret differs."
            ) from error
        if content.protected.get("kid") != str(key) or content.plaintext is None:
            raise UnreadableContent("The content belongs to another message.")
        return json.loads(content.plaintext)
