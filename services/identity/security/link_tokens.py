"""The tokens of links in messages: 256 random bits, stored as their SHA-256."""

import hashlib
import secrets

LINK_TOKEN_BYTES = 32


def new_link_token() -> str:
    """Return a new token, in characters that an address may contain."""
    return secrets.token_urlsafe(LINK_TOKEN_BYTES)


def hash_link_token(token: str) -> bytes:
    """Return the SHA-256 of a token, under which its link is stored."""
    return hashlib.sha256(token.encode()).digest()
