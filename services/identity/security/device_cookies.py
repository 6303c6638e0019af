"""Device cookies: they make a browser known from which a user signed in before.

The scheme of OWASP's "Slow down online guessing attacks with device cookies". The cookie is no
credential: it only decides which failed attempts count against a sign-in, so that an attacker
without it cannot keep its owner out. All cookies of an account share one limit of attempts:
collecting them allows no more attempts.

A cookie is base64url of 41 bytes: a version (2), the user's id and the time of its creation in
microseconds since 1970 (8 bytes each, big-endian), 8 random bytes, and the first 16 bytes of the
HMAC-SHA256 of all that. Cookies of version 1 had 36 bytes and no time; they are not recognized.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.identity.security.key_encryption import KeyEncryption
from shared.db import now

COOKIE = "carnet_device"
HTTPS_COOKIE = f"__Host-{COOKIE}"
"""Browsers accept a cookie with this prefix only over HTTPS and from exactly this host (RFC
6265bis, section 4.1.3.2). Another host of the domain cannot replace it."""
MAX_AGE = timedelta(days=180)

_VERSION = 2
_FORMAT = struct.Struct(">Bqq8s")
_RANDOM_BYTES = 8
_MAC_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Device:
    """A device from which a user signed in, and when its cookie was created."""

    user_id: int
    known_from: datetime

    def is_valid_for(self, user_id: int, known_since: datetime | None) -> bool:
        """Return whether it belongs to this user and no password was set since."""
        is_current = known_since is None or self.known_from >= known_since
        return self.user_id == user_id and is_current


class DeviceCookies:
    """Creates and reads device cookies. Each is valid for one account."""

    def __init__(self, key_encryption: KeyEncryption) -> None:
        self._key = key_encryption.derive_key("device cookies")

    def make(self, user_id: int) -> str:
        """Return a new cookie for a user whose password has just been verified."""
        created_at = (now() - _EPOCH) // _MICROSECOND
        body = _FORMAT.pack(_VERSION, user_id, created_at, secrets.token_bytes(_RANDOM_BYTES))
        return base64.urlsafe_b64encode(body + self._mac(body)).decode()

    def read(self, cookie: str | None) -> Device | None:
        """Return the device of a cookie.

        Returns None without a cookie, for one that this service did not create, and for one that
        is too old.
        """
        try:
            raw = base64.urlsafe_b64decode((cookie or "").encode())
        except (ValueError, binascii.Error):
            return None
        body, mac = raw[: _FORMAT.size], raw[_FORMAT.size :]
        if len(body) != _FORMAT.size or not hmac.compare_digest(mac, self._mac(body)):
            return None
        version, user_id, created_at, _random = _FORMAT.unpack(body)
        known_from = _EPOCH + created_at * _MICROSECOND
        if version != _VERSION or now() - known_from > MAX_AGE:
            return None
        return Device(user_id, known_from)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:_MAC_BYTES]
