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

from services.identity.vault import Vault

COOKIE = "carnet_device"
MAX_AGE_SECONDS = 180 * 24 * 3600
_NONCE_BYTES = 12
_MAC_BYTES = 16


class DeviceCookies:
    """Makes and reads device cookies; each is good for one account."""

    def __init__(self, vault: Vault) -> None:
        self._key = vault.derived("device cookies")

    def make(self, user_id: int) -> str:
        """Return a new cookie for a user who has just signed in."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._mac(nonce, user_id)).decode()

    def nonce(self, cookie: str | None, user_id: int | None) -> bytes | None:
        """Return what identifies the device if the cookie is ours and this user's, else None."""
        if cookie is None or user_id is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(cookie.encode())
        except (ValueError, binascii.Error):
            return None
        nonce, mac = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
        return nonce if hmac.compare_digest(mac, self._mac(nonce, user_id)) else None

    def _mac(self, nonce: bytes, user_id: int) -> bytes:
        message = nonce + user_id.to_bytes(8, "big")
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES]
