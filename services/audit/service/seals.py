"""Seals: signed heads of the chains, stored where the database's administrator has no access.

A seal is a JWS (RFC 7515) on a line of its own. Its payload holds the heads that moved since the
seal before, and the hash of that seal, so the signature of the newest seal covers all of them.
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
        """Return the line that is stored of a seal."""
        header = {"alg": ALGORITHM, "typ": SEAL_TYPE, "kid": self._key.kid}
        return jws.serialize_compact(
            header, seal.model_dump_json().encode(), self._key, algorithms=[ALGORITHM]
        )


class SealReader:
    """Reads the seals of a store, and accepts only an unbroken sequence with a signed end."""

    def __init__(self, store: SealStore, public_keys: str) -> None:
        self._store = store
        self._keys = KeySet.import_key_set(json.loads(public_keys))

    async def evidence(self) -> Evidence:
        """Return the content of all seals. Raises SealsUnreachable."""
        evidence = Evidence()
        await self.read_on(evidence)
        return evidence

    async def read_on(self, evidence: Evidence) -> None:
        """Add the seals behind the newest one in the evidence. Raises SealsUnreachable."""
        newest = evidence.newest.number if evidence.newest else 0
        async for lines in self._store.read(evidence.newest):
            await to_thread.run_sync(_add_seals, evidence, newest, lines)
            if evidence.fault:
                return
        if evidence.last_line and not self._is_ours(evidence.last_line):
            evidence.fault = "The newest seal does not have our signature."

    def _is_ours(self, line: str) -> bool:
        try:
            read = jws.deserialize_compact(line, self._keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            return False
        return read.headers().get("typ") == SEAL_TYPE


def _add_seals(evidence: Evidence, newest: int, lines: Sequence[str]) -> None:
    """Add the seals behind `newest` to the evidence, up to the first that does not follow."""
    for line in lines:
        # A line that is no seal is left by a crash. If it was a seal, the next one does not follow.
        seal = seal_of(line)
        if seal is None or seal.number <= newest:
            continue
        if not evidence.continues_with(seal):
            evidence.fault = f"Seal {seal.number} does not follow the one before it."
            return
        evidence.add(seal, line)


class Sealer:
    """Writes a seal every minute if there are new rows, or sooner after many rows."""

    EVERY_SECONDS = 60.0
    EVERY_ROWS = 1000

    def __init__(self, store: SealStore, reader: SealReader, signer: SealSigner) -> None:
        self._store, self._reader, self._signer = store, reader, signer
        self._evidence: Evidence | None = None

    def is_due(self, heads: Mapping[int, Head], evidence: Evidence, moment: datetime) -> bool:
        """Return whether enough rows are not sealed, or some for long enough."""
        rows = sum(
            max(head.position - evidence.sealed_position(id_), 0) for id_, head in heads.items()
        )
        if evidence.newest is None:
            return rows > 0
        age = (moment - evidence.newest.sealed_at).total_seconds()
        return rows >= self.EVERY_ROWS or (rows > 0 and age >= self.EVERY_SECONDS)

    async def seal(self, heads: Mapping[int, Head], moment: datetime) -> Seal | None:
        """Seal the heads that moved, if a seal is due; return the new seal, or None.

        Raises SealsUnreachable, and Overtaken if the stored seals cannot be continued.
        """
        if self._evidence is None:
            self._evidence = await self._reader.evidence()
        evidence = self._evidence
        if not self.is_due(heads, evidence, moment):
            return None
        new_heads = {
            chain: (head.position, head.hash.hex())
            for chain, head in heads.items()
            if head.position > evidence.sealed_position(chain)
        }
        number = evidence.newest.number + 1 if evidence.newest else 1
        previous = digest(evidence.last_line)
        seal = Seal(number=number, sealed_at=moment, previous=previous, heads=new_heads)
        line = self._signer.sign(seal)
        try:
            await self._store.add(seal, line, evidence.last_line)
        except Overtaken:
            await self._catch_up(evidence, number)
            return await self.seal(heads, moment)
        evidence.add(seal, line)
        return seal

    async def _catch_up(self, evidence: Evidence, number: int) -> None:
        """Read what another worker has sealed. Raises Overtaken if there is no new seal."""
        await self._reader.read_on(evidence)
        if evidence.fault or evidence.newest is None or evidence.newest.number < number:
            self._evidence = None
            reason = evidence.fault or "it is no seal"
            raise Overtaken(f"The place of seal {number} is taken: {reason}")


async def seal_heads(transactions: Transactions, sealer: Sealer, moment: datetime) -> None:
    """Seal the chains' heads if a seal is due. No transaction is open while the store is called."""
    async with transactions.system() as session:
        heads = await queries.list_heads(session)
    await sealer.seal(heads, moment)
