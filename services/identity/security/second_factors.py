"""Second factors: secrets of authenticator apps (TOTP, RFC 6238), recovery codes, challenges."""

import base64
import hashlib
import hmac
import secrets
from datetime import datetime

import pyotp
from joserfc import jwe
from joserfc.jwk import OctKey

from services.identity.security.key_encryption import KeyEncryption

RECOVERY_CODES = 10
_ISSUER = "Carnet"
_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]
_CODE_BYTES = 10
_CODE_GROUP = 4
_CHALLENGE_BYTES = 32
_DRIFT = (-1, 0, 1)
"""Steps of 30 seconds by which the clock of an app may differ (RFC 6238, section 5.2)."""


class FactorSecrets:
    """Encrypts the secrets of second factors, and hashes recovery codes.

    Both with keys that are derived from the signing secret: the database alone reveals neither.
    """

    def __init__(self, key_encryption: KeyEncryption) -> None:
        self._key = OctKey.import_key(key_encryption.derive_key("secrets of second factors"))
        self._code_key = key_encryption.derive_key("recovery codes")

    def encrypt(self, secret: str, user_id: int) -> str:
        """Return an app's secret, encrypted and bound to its user."""
        header = {**_HEADER, "kid": str(user_id)}
        return jwe.encrypt_compact(header, secret.encode(), self._key, algorithms=_ALGORITHMS)

    def decrypt(self, encrypted_secret: str, user_id: int) -> str:
        """Return the secret; raises ValueError or a JoseError if it is of another user or key."""
        content = jwe.decrypt_compact(encrypted_secret, self._key, algorithms=_ALGORITHMS)
        if content.protected.get("kid") != str(user_id) or content.plaintext is None:
            raise ValueError("This second factor belongs to another user.")
        return content.plaintext.decode()

    def hash_recovery_code(self, code: str, user_id: int) -> bytes:
        """Return the hash of a recovery code, in whichever case and groups it was typed."""
        text = "".join(code.split()).replace("-", "").upper()
        message = f"{user_id}\n{text}".encode(errors="replace")
        return hmac.digest(self._code_key, message, hashlib.sha256)


def new_secret() -> str:
    """Return a new secret of 160 random bits, in base32 as apps read it."""
    return pyotp.random_base32()


def address_for_app(secret: str, email: str) -> str:
    """Return the `otpauth:` address of a secret, which apps read as a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=_ISSUER)


def find_step(secret: str, code: str, moment: datetime, last_step: int | None) -> int | None:
    """Return the time step whose code this is, or None.

    Steps up to the last one that was used are ignored: no code is accepted twice.
    """
    totp = pyotp.TOTP(secret)
    text = "".join(code.split()).encode(errors="replace")
    present = totp.timecode(moment)
    for step in (present + drift for drift in _DRIFT):
        is_new = last_step is None or step > last_step
        if is_new and hmac.compare_digest(totp.generate_otp(step).encode(), text):
            return step
    return None


def new_recovery_codes() -> list[str]:
    """Return new recovery codes of 80 random bits, in groups that are easy to type."""
    texts = [
        base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode() for _ in range(RECOVERY_CODES)
    ]
    return [
        "-".join(text[start : start + _CODE_GROUP] for start in range(0, len(text), _CODE_GROUP))
        for text in texts
    ]


def new_challenge_token() -> str:
    """Return a new token for the second step of a sign-in."""
    return secrets.token_urlsafe(_CHALLENGE_BYTES)


def hash_challenge_token(token: str) -> bytes:
    """Return the SHA-256 of a token, under which its challenge is stored."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
