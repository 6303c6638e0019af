"""The answers to exchanged refresh tokens, stored for ten seconds so that they can be repeated.

Two tabs of a browser that refresh at once send the same token, and so does a client whose answer
was lost. An answer is encrypted with a key that is derived from the service's secret, from the
exchanged token, and from the device cookie that was sent with it. Of the token only the hash is
stored and of the cookie nothing, so neither the database nor the secret alone reveals the tokens in
the answer, and a copy of the token does not get them from another device.
"""

import hashlib
import hmac

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from services.identity.schemas.sign_in import TokensRead
from services.identity.security.key_encryption import KeyEncryption

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]


class RefreshAnswers:
    """Encrypts and decrypts the answers to exchanged refresh tokens."""

    def __init__(self, key_encryption: KeyEncryption) -> None:
        self._key = key_encryption.derive_key("answers to refresh tokens")

    def encrypt(self, refresh_token: str, device: str | None, tokens: TokensRead) -> str:
        """Return the new tokens of a refresh token, encrypted; `device` is the device cookie."""
        plain = tokens.model_dump_json().encode()
        return jwe.encrypt_compact(
            _HEADER, plain, self._key_for(refresh_token, device), algorithms=_ALGORITHMS
        )

    def decrypt(
        self, refresh_token: str, device: str | None, encrypted_answer: str
    ) -> TokensRead | None:
        """Return the new tokens, or None when they are of another device or another secret."""
        try:
            content = jwe.decrypt_compact(
                encrypted_answer, self._key_for(refresh_token, device), algorithms=_ALGORITHMS
            )
        except JoseError:
            return None
        return TokensRead.model_validate_json(content.plaintext or b"")

    def _key_for(self, refresh_token: str, device: str | None) -> OctKey:
        # A client without cookies has the key of earlier versions. No token contains a line break.
        text = refresh_token if device is None else f"{refresh_token}\n{device}"
        return OctKey.import_key(hmac.digest(self._key, text.encode(), hashlib.sha256))
