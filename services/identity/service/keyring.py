"""The keys that sign access tokens: made, published, used, retired.

A key is published (JWKS) before it signs, so that every verifier has it by then, and stays
published until the last token it signed has died. The rows say when; the clock does the rest.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from joserfc.jwk import ECKey, KeySet
from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils import uuid7

from services.identity.models import SigningKey
from services.identity.security.key_encryption import KeyEncryption
from shared.context import system_origin
from shared.db import now
from shared.tenancy import NOTHING
from shared.transactions import Transactions

TOKEN_LIFETIME = timedelta(minutes=10)
CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far our instances' and the verifiers' clocks may be apart."""

VERIFICATION_PERIOD = TOKEN_LIFETIME + CLOCK_TOLERANCE
"""How long after its last signature a key is needed."""

PUBLICATION_LEAD = timedelta(minutes=10)
"""Longer than any verifier keeps a key set (five minutes, see shared.tokens.Keys.MAX_AGE)."""

_LOCK = select(
    func.pg_advisory_xact_lock(
        func.hashtextextended(func.concat(func.current_schema(), ".signing_keys"), 0)
    )
)


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
    """Publish a new key that takes over after `lead`; the old ones stay until their tokens died.

    A key that was waiting for its turn is not needed any more, but may be known: it stays as long.
    """
    await session.execute(_LOCK)
    new = await create_key(session, key_encryption, now() + lead)
    last_token_dies = new.signs_from + VERIFICATION_PERIOD
    await session.execute(
        update(SigningKey)
        .where(SigningKey.id != new.id, SigningKey.published_until.is_(None))
        .values(published_until=last_token_dies)
    )
    return new


async def list_keys(session: AsyncSession) -> Sequence[SigningKey]:
    """Return every key, the newest first."""
    statement = select(SigningKey).order_by(SigningKey.signs_from.desc())
    return (await session.scalars(statement)).all()


async def retire(session: AsyncSession) -> None:
    """Erase the private part of the keys that no token needs any more; the row tells of them."""
    await session.execute(
        update(SigningKey)
        .where(SigningKey.published_until < now(), SigningKey.private_key.is_not(None))
        .values(private_key=None)
    )


@dataclass(slots=True)
class Keyring:
    """The keys as this process knows them, read again every few seconds."""

    transactions: Transactions
    key_encryption: KeyEncryption
    max_age: float = 5.0
    _rows: Sequence[SigningKey] = ()
    _read_at: float = float("-inf")
    _opened: dict[str, ECKey] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def signing_key(self) -> ECKey:
        """Return the key that signs now; the first one is made when there is none."""
        rows = await self._published()
        current = next(row for row in rows if _signs(row, now()))
        if current.id not in self._opened:
            if current.private_key is None:
                raise ValueError(f"the private part of key {current.id} is gone")
            self._opened = {
                current.id: self.key_encryption.decrypt(current.private_key, current.id)
            }
        return self._opened[current.id]

    async def public_keys(self) -> dict[str, Any]:
        """Return the published keys as a JWK set (RFC 7517)."""
        return {"keys": [row.public_key for row in await self._published()]}

    async def key_set(self) -> KeySet:
        """Return the published keys for our own verifier."""
        return KeySet.import_key_set(await self.public_keys())  # type: ignore[arg-type]

    async def ready(self) -> bool:
        """Say whether tokens can be signed: false with another signing secret than before."""
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
            rows = await _published(session)
            if any(_signs(row, now()) for row in rows):
                return rows
            # The very first start. Of several instances one makes the key, the others find it.
            await session.execute(_LOCK)
            if not await _published(session):
                await create_key(session, self.key_encryption, now())
            return await _published(session)


def _signs(row: SigningKey, moment: datetime) -> bool:
    """Say whether it is this key's turn: from its start until that of the key after it."""
    if row.published_until is not None and moment >= row.published_until - VERIFICATION_PERIOD:
        return False
    return row.signs_from <= moment


async def _published(session: AsyncSession) -> Sequence[SigningKey]:
    until = SigningKey.published_until
    statement = select(SigningKey).where(or_(until.is_(None), until > now()))
    return (await session.scalars(statement.order_by(SigningKey.signs_from.desc()))).all()
