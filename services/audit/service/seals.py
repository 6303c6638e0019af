"""Seals: signed heads of the chains, kept where the database's administrator cannot reach.

A seal is a JWS (RFC 7515) on a line of its own. Its payload names the heads that moved since the
one before, and the hash of that one: so the signature of the newest vouches for all of them.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from anyio import to_thread
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from services.audit import queries
from services.audit.evidence.chain import Head
from services.audit.evidence.seal_stores import Overtaken, SealStore
from services.audit.evidence.sealed_heads import Evidence, Seal, digest, seal_of
from shared.tokens import ALGORITHM
from shared.transactions import Transactions

SEAL_TYPE = "audit-seal+jws"


class SealSigner:
    """Signs seals with the service's own key."""

    def __init__(self, private_key: str) -> None:
        self._key = ECKey.import_key(json.loads(private_key))

    def sign(self, seal: Seal) -> str:
        """Return a seal as the line that is kept of it."""
        header = {"alg": ALGORITHM, "typ": SEAL_TYPE, "kid": self._key.kid}
        return jws.serialize_compact(
            header, seal.model_dump_json().encode(), self._key, algorithms=[ALGORITHM]
        )


class SealReader:
    """Reads what the seals of a store say, and believes only what is signed and unbroken."""

    def __init__(self, store: SealStore, public_keys: str) -> None:
        self._store = store
        self._keys = KeySet.import_key_set(json.loads(public_keys))

    async def evidence(self) -> Evidence:
        """Return what all the seals say. Raises SealsUnreachable."""
        evidence = Evidence()
        await self.read_on(evidence)
        return evidence

    async def read_on(self, evidence: Evidence) -> None:
        """Add what the seals say that came after the newest known one. Raises SealsUnreachable."""
        known = evidence.newest.number if evidence.newest else 0
        async for lines in self._store.read(evidence.newest):
            await to_thread.run_sync(_take, evidence, known, lines)
            if evidence.fault:
                return
        if evidence.last_line and not self._is_signed(evidence.last_line):
            evidence.fault = "The newest seal does not have our signature."

    def _is_signed(self, line: str) -> bool:
        try:
            read = jws.deserialize_compact(line, self._keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            return False
        return read.headers().get("typ") == SEAL_TYPE


def _take(evidence: Evidence, known: int, lines: Sequence[str]) -> None:
    """Add seals to the evidence, up to the first that does not follow; `known` are passed over."""
    for line in lines:
        # A line that cannot be read was cut short by a crash, or is missed by the next one.
        seal = seal_of(line)
        if seal is None or seal.number <= known:
            continue
        if not evidence.continues_with(seal):
            evidence.fault = f"Seal {seal.number} does not follow the one before it."
            return
        evidence.add(seal, line)


class Sealer:
    """Writes a seal whenever enough has happened: every minute, or sooner after many rows."""

    EVERY_SECONDS = 60.0
    EVERY_ROWS = 1000

    def __init__(self, store: SealStore, reader: SealReader, signer: SealSigner) -> None:
        self._store, self._reader, self._signer = store, reader, signer
        self._evidence: Evidence | None = None

    def is_due(self, heads: Mapping[int, Head], evidence: Evidence, moment: datetime) -> bool:
        """Say whether rows wait for their seal long enough, or are enough."""
        rows = sum(
            max(head.position - evidence.sealed_position(id_), 0) for id_, head in heads.items()
        )
        if evidence.newest is None:
            return rows > 0
        age = (moment - evidence.newest.sealed_at).total_seconds()
        return rows >= self.EVERY_ROWS or (rows > 0 and age >= self.EVERY_SECONDS)

    async def seal(self, heads: Mapping[int, Head], moment: datetime) -> Seal | None:
        """Seal the heads that moved, if it is due; return the new seal.

        Raises SealsUnreachable, or Overtaken when what is kept cannot be continued.
        """
        if self._evidence is None:
            self._evidence = await self._reader.evidence()
        evidence = self._evidence
        if not self.is_due(heads, evidence, moment):
            return None
        moved = {
            chain: (head.position, head.hash.hex())
            for chain, head in heads.items()
            if head.position > evidence.sealed_position(chain)
        }
        number = evidence.newest.number + 1 if evidence.newest else 1
        previous = digest(evidence.last_line)
        seal = Seal(number=number, sealed_at=moment, previous=previous, heads=moved)
        line = self._signer.sign(seal)
        try:
            await self._store.add(seal, line, evidence.last_line)
        except Overtaken:
            await self._catch_up(evidence, number)
            return await self.seal(heads, moment)
        evidence.add(seal, line)
        return seal

    async def _catch_up(self, evidence: Evidence, number: int) -> None:
        """Learn what another worker has sealed. Raises Overtaken when there is nothing to learn."""
        await self._reader.read_on(evidence)
        if evidence.fault or evidence.newest is None or evidence.newest.number < number:
            self._evidence = None
            told = evidence.fault or "it is no seal"
            raise Overtaken(f"The place of seal {number} is taken: {told}")


async def seal_heads(transactions: Transactions, sealer: Sealer, moment: datetime) -> None:
    """Seal the chains' heads if it is due; no transaction waits for the place of the seals."""
    async with transactions.system() as session:
        heads = await queries.list_heads(session)
    await sealer.seal(heads, moment)
