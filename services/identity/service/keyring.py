"""The keys that sign access tokens: created, published, used, and erased.

A key is published (JWKS) before it signs, so that every verifier has it by then. It stays
published until the last token that it signed has expired. The rows contain these moments; no
process has to act at any of them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from joserfc.jwk import ECKey, KeySet
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils import uuid7

from services.identity import queries
from services.identity.models import SigningKey
from services.identity.security.key_encryption import KeyEncryption
from services.identity.security.tokens import TOKEN_LIFETIME, TokenSigner
from shared.context import system_origin
from shared.db import now
from shared.tenancy import NOTHING
from shared.transactions import Transactions

CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the clocks of our instances and of the verifiers may differ."""

VERIFICATION_PERIOD = TOKEN_LIFETIME + CLOCK_TOLERANCE
"""How long after its last signature a key is needed."""

PUBLICATION_LEAD = timedelta(minutes=10)
"""Longer than any verifier caches a key set (five minutes, see shared.tokens.Keys.MAX_AGE)."""


async def create_key(
    session: AsyncSession, key_encryption: KeyEncryption, signs_from: datetime
) -> SigningKey:
    """Add a key that signs from an instant on."""
    key_id = str(uuid7())
    key = ECKey.generate_key("P-256", {"kid": key_id, "use": "sig", "alg": "ES256"}, private=True)
    row = SigningKey(
        id=key_id,
        public_key=key.as_dict(private=False),
        private_key=key_encryption.encrypt(key),
        signs_from=signs_from,
    )
    session.add(row)
    await session.flush()
    return row


async def rotate(
    session: AsyncSession, key_encryption: KeyEncryption, lead: timedelta = PUBLICATION_LEAD
) -> SigningKey:
    """Publish a new key that signs after `lead`. The others stay until their tokens expire.

    An earlier key that does not sign yet never will. Verifiers may have it, so it stays as long.
    """
    await queries.lock_signing_keys(session)
    new_key = await create_key(session, key_encryption, now() + lead)
    await session.execute(
        update(SigningKey)
        .where(SigningKey.id != new_key.id, SigningKey.published_until.is_(None))
        .values(published_until=new_key.signs_from + VERIFICATION_PERIOD)
    )
    return new_key


async def list_keys(session: AsyncSession) -> Sequence[SigningKey]:
    """Return every key, the newest first."""
    return await queries.list_signing_keys(session)


async def erase_retired(session: AsyncSession) -> None:
    """Erase the private part of the keys whose tokens have all expired. The rows stay."""
    await session.execute(
        update(SigningKey)
        .where(SigningKey.published_until < now(), SigningKey.private_key.is_not(None))
        .values(private_key=None)
    )


@dataclass(slots=True)
class Keyring:
    """The published keys, cached in this process for `max_age` seconds."""

    transactions: Transactions
    key_encryption: KeyEncryption
    max_age: float = 5.0
    _rows: Sequence[SigningKey] = ()
    _read_at: float = float("-inf")
    _private_keys: dict[str, ECKey] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def signing_key(self) -> ECKey:
        """Return the key that signs now. The first one is created when there is none."""
        rows = await self._published()
        current = next(row for row in rows if _signs(row, now()))
        if current.id not in self._private_keys:
            if current.private_key is None:
                raise ValueError(f"The private part of key {current.id} has been erased.")
            private_key = self.key_encryption.decrypt(current.private_key, current.id)
            self._private_keys = {current.id: private_key}
        return self._private_keys[current.id]

    async def public_keys(self) -> dict[str, Any]:
        """Return the published keys as a JWK set (RFC 7517)."""
        return {"keys": [row.public_key for row in await self._published()]}

    async def key_set(self) -> KeySet:
        """Return the published keys for our own verifier."""
        return KeySet.import_key_set(await self.public_keys())  # type: ignore[arg-type]

    async def ready(self) -> bool:
        """Return whether tokens can be signed: not after the signing secret was replaced."""
        try:
            await self.signing_key()
        except Exception:
            return False
        return True

    async def _published(self) -> Sequence[SigningKey]:
        if time.monotonic() - self._read_at >= self.max_age:
            async with self._lock:
                if time.monotonic() - self._read_at >= self.max_age:
                    self._rows = await self._read()
                    self._read_at = time.monotonic()
        return self._rows

    async def _read(self) -> Sequence[SigningKey]:
        async with self.transactions.begin(system_origin(), NOTHING) as session:
            rows = await queries.list_published_keys(session)
            if any(_signs(row, now()) for row in rows):
                return rows
            # The first start. Of several instances one creates the key, the others find it.
            await queries.lock_signing_keys(session)
            if not await queries.list_published_keys(session):
                await create_key(session, self.key_encryption, now())
            return await queries.list_published_keys(session)


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Issues access tokens in the name of one issuer for one audience."""

    keyring: Keyring
    issuer: str
    audience: str

    async def signer(self) -> TokenSigner:
        """Return a signer with the current key.

        Call it before a transaction begins, not within one. The keys may have to be read: a
        transaction that waits for a second connection can block the whole pool.
        """
        return TokenSigner(await self.keyring.signing_key(), self.issuer, self.audience)


def _signs(row: SigningKey, moment: datetime) -> bool:
    """Return whether a key signs at a moment: from its start until the next key starts."""
    if row.published_until is not None and moment >= row.published_until - VERIFICATION_PERIOD:
        return False
    return row.signs_from <= moment
