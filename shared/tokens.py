"""Access tokens of users and tokens of services. Every process verifies them by itself."""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import anyio
import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode

from shared.actors import Actor, CallingService, actor_of
from shared.errors import ServiceUnavailable, Unauthenticated
from shared.settings import TokenSettings

log = structlog.get_logger(__name__)

ALGORITHM = "ES256"
ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's media type, not a password
SERVICE_TOKEN_TYPE = "service+jwt"  # noqa: S105
MAX_TOKEN_BYTES = 8 * 1024
LEEWAY_SECONDS = 5
SERVICE_TOKEN_SECONDS = 60

FetchKeys = Callable[[], Awaitable[KeySet]]


class Keys:
    """The public keys of a token issuer: pinned, or fetched at the first use and refreshed.

    For an unknown key id the keys are fetched again, at most every few seconds: so a rotated key is
    known at once, and forged key ids cannot flood the issuer with requests. Otherwise they are
    refreshed in the background: a slow issuer delays neither a request nor a readiness check.
    """

    MAX_AGE = 300.0
    MIN_AGE = 2.0

    def __init__(self, pinned: str | None = None, fetch: FetchKeys | None = None) -> None:
        self._keys = KeySet.import_key_set(json.loads(pinned)) if pinned else None
        self._fetch = fetch
        self._fetched_at = float("-inf")
        self._lock = anyio.Lock()
        self._refresh: asyncio.Task[None] | None = None

    async def with_id(self, key_id: str) -> ECKey | None:
        """Return the key with this id, or None; raises ServiceUnavailable without any keys."""
        await self._refresh_old()
        key = self._find(key_id)
        if key is None and self._fetch is not None:
            await self._refresh_if_older_than(self.MIN_AGE)
            key = self._find(key_id)
        return key

    async def ready(self) -> bool:
        """Return whether there are keys to verify with."""
        try:
            await self._refresh_old()
        except ServiceUnavailable:
            return False
        return True

    async def _refresh_old(self) -> None:
        """Fetch the first keys now, and later ones in the background."""
        if self._keys is None:
            await self._refresh_if_older_than(self.MAX_AGE)
        elif self._is_older_than(self.MAX_AGE) and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._refresh_in_background())

    async def _refresh_in_background(self) -> None:
        try:
            await self._refresh_if_older_than(self.MAX_AGE)
        except Exception as error:
            # Any error: no request waits for this task, and the next request starts another.
            log.warning("keys_unreachable", cause=repr(error))

    def _is_older_than(self, age: float) -> bool:
        return self._fetch is not None and time.monotonic() - self._fetched_at >= age

    def _find(self, key_id: str) -> ECKey | None:
        keys = self._keys.keys if self._keys else []
        return next((key for key in keys if key.kid == key_id and isinstance(key, ECKey)), None)

    async def _refresh_if_older_than(self, age: float) -> None:
        if self._fetch is None or not self._is_older_than(age):
            return
        async with self._lock:
            if not self._is_older_than(age):
                return
            try:
                self._keys = await self._fetch()
                self._fetched_at = time.monotonic()
            except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
                log.warning("keys_unreachable", cause=repr(error))
                if self._keys is None:
                    raise ServiceUnavailable(
                        "The keys of access tokens cannot be read. Try again in a few seconds."
                    ) from error
                # The old keys are still used, and the next request may fetch again after MIN_AGE.
                self._fetched_at = time.monotonic() - self.MAX_AGE + self.MIN_AGE


def fetch_from(url: str) -> FetchKeys:
    """Return a function that reads a key set from an address."""

    async def fetch() -> KeySet:
        async with httpx.AsyncClient(timeout=5) as client:
            response = await client.get(url)
            response.raise_for_status()
            return KeySet.import_key_set(response.json())

    return fetch


@dataclass(slots=True)
class _CachedActor:
    actor: Actor
    until: float


@dataclass(slots=True)
class TokenVerifier:
    """Verifies access tokens. Verified ones are cached for a minute, but not after they expire."""

    keys: Keys
    issuer: str
    audience: str
    cache_seconds: float = 60.0
    cache_size: int = 10_000
    _cache: OrderedDict[bytes, _CachedActor] = field(default_factory=OrderedDict)

    @classmethod
    def from_settings(cls, settings: TokenSettings) -> "TokenVerifier":
        """Build the verifier that a process's settings describe."""
        fetch = fetch_from(settings.jwks_url) if settings.jwks_url else None
        keys = Keys(pinned=settings.jwks, fetch=fetch)
        return cls(keys, settings.token_issuer, settings.token_audience)

    def find_cached(self, token: str) -> Actor | None:
        """Return the token's actor if the token was verified recently, else None."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        return self._find(_digest(token))

    async def verify(self, token: str) -> Actor:
        """Return the token's actor.

        Raises Unauthenticated unless it is a valid access token of our issuer, and
        ServiceUnavailable if there are no keys.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated("The access token is too large. Sign in again.")
        digest = _digest(token)
        cached_actor = self._find(digest)
        if cached_actor is not None:
            return cached_actor
        claims = await verified_claims(
            token, self.keys, ACCESS_TOKEN_TYPE, self.issuer, self.audience
        )
        actor = actor_of(claims)
        until = min(time.time() + self.cache_seconds, actor.expires_at)
        self._cache[digest] = _CachedActor(actor, until)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return actor

    def _find(self, digest: bytes) -> Actor | None:
        entry = self._cache.get(digest)
        return entry.actor if entry is not None and entry.until > time.time() else None


# A client sends the same token many times, and hashing costs more than the rest of a lookup.
@lru_cache(maxsize=1024)
def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


async def verified_claims(
    token: str, keys: Keys, kind: str, issuer: str | None, audience: str
) -> dict[str, Any]:
    """Return a token's claims after its signature, kind, issuer, audience and age are verified.

    The algorithm is fixed; the token cannot choose it (RFC 8725). Raises Unauthenticated.
    """
    try:
        key = await keys.with_id(_key_id(token, kind))
        if key is None:
            raise Unauthenticated("The access token's key is not known. Sign in again.")
        decoded = jwt.decode(token, key, algorithms=[ALGORITHM])
        registry = JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            aud={"essential": True, "value": audience},
            iss={"essential": True, **({"value": issuer} if issuer else {})},
        )
        registry.validate(decoded.claims)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise Unauthenticated(
            "The access token is not valid or has expired. Sign in again."
        ) from None
    return dict(decoded.claims)


async def verified_caller(token: str, keys: Keys, own_name: str) -> CallingService:
    """Return the service that signed a token for the service `own_name`.

    Raises Unauthenticated.
    """
    claims = await verified_claims(token, keys, SERVICE_TOKEN_TYPE, None, own_name)
    # A service may only sign tokens in its own name: the id of the key is the caller's name.
    if claims["iss"] != _header(token).get("kid"):
        raise Unauthenticated(
            "The service token is not valid. Sign it with the key of the service that calls."
        )
    return CallingService(str(claims["iss"]), claims.get("user_id"), str(claims.get("role")))


def _key_id(token: str, kind: str) -> str:
    """Return a token's key id. Raises Unauthenticated for another kind or algorithm."""
    header = _header(token)
    if header.get("alg") != ALGORITHM or header.get("typ") != kind:
        raise Unauthenticated("The access token is not of the expected kind. Sign in again.")
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise Unauthenticated("The access token names no key. Sign in again.")
    return key_id


def _header(token: str) -> dict[str, Any]:
    first, separator, _ = token.partition(".")
    header = json.loads(urlsafe_b64decode(first.encode())) if separator else None
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header


class ServiceSigner:
    """Signs the short-lived tokens with which a service calls another."""

    def __init__(self, private_key: str) -> None:
        self._key = ECKey.import_key(json.loads(private_key))
        if self._key.kid is None or not self._key.is_private:
            raise ValueError("INTERNAL_KEY must be a private key with a key id")
        self.name = self._key.kid

    def token_for(self, service: str, user_id: int | None = None, role: str = "system") -> str:
        """Return a token for a call to `service`, valid for a minute, on behalf of a user."""
        now = int(time.time())
        header = {"alg": ALGORITHM, "typ": SERVICE_TOKEN_TYPE, "kid": self.name}
        claims = {
            "iss": self.name,
            "sub": self.name,
            "aud": service,
            "user_id": user_id,
            "role": role,
            "iat": now,
            "exp": now + SERVICE_TOKEN_SECONDS,
        }
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])
