"""Device cookies: a browser that signed in before is told from a stranger.

The scheme of OWASP's "Slow down online guessing attacks with device cookies". The cookie is no
credential: it only chooses which failed attempts count against a sign-in, so that nobody without
it can keep its holder out.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from services.identity.vault import Vault

COOKIE = "carnet_device"
MAX_AGE_SECONDS = 180 * 24 * 3600
_NONCE_BYTES = 12
_ID_BYTES = 8
_KNOWN_BYTES = _NONCE_BYTES + _ID_BYTES
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and the user who signed in from it."""

    name: str
    user_id: int


class DeviceCookies:
    """Makes and reads device cookies; each is good for one account."""

    def __init__(self, vault: Vault) -> None:
        self._key = vault.derived("device cookies")

    def make(self, user_id: int) -> str:
        """Return a new cookie for a user who has just signed in."""
        known = secrets.token_bytes(_NONCE_BYTES) + user_id.to_bytes(_ID_BYTES, "big")
        return base64.urlsafe_b64encode(known + self._mac(known)).decode()

    def read(self, cookie: str | None) -> Device | None:
        """Return the device of a cookie, or None for none and for one that we did not make."""
        try:
            raw = base64.urlsafe_b64decode((cookie or "").encode())
        except (ValueError, binascii.Error):
            return None
        known, mac = raw[:_KNOWN_BYTES], raw[_KNOWN_BYTES:]
        if not hmac.compare_digest(mac, self._mac(known)):
            return None
        return Device(known[:_NONCE_BYTES].hex(), int.from_bytes(known[_NONCE_BYTES:], "big"))

    def _mac(self, known: bytes) -> bytes:
        return hmac.digest(self._key, known, hashlib.sha256)[:_MAC_BYTES]
