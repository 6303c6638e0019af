"""Seals: signed heads of the chains, kept where the database's administrator cannot reach.

A seal is a JWS (RFC 7515) on a line of its own. Its payload names the heads that moved since the
one before, and the hash of that one: so the signature of the newest vouches for all of them.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from anyio import to_thread
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from pydantic import BaseModel

from services.audit.chain import Head, chain_of
from shared.auth import ALGORITHM

SEAL_TYPE = "audit-seal+jws"
_FILES = "seals-*.jws"

Sealed = Mapping[int, bytes]
"""What seals say of one chain: position → hash."""


class Seal(BaseModel):
    """What one seal says; `previous` and the heads' hashes are hexadecimal."""

    number: int
    sealed_at: datetime
    previous: str
    heads: dict[int, tuple[int, str]]


@dataclass(slots=True)
class Evidence:
    """Everything that the seals say, or why they cannot be believed."""

    newest: Seal | None = None
    last_line: str = ""
    fault: str | None = None
    chains: dict[int, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))

    def of(self, organization_id: int | None) -> Sealed:
        """Return what the seals say of one chain."""
        return self.chains.get(chain_of(organization_id), {})

    def sealed_position(self, chain: int) -> int:
        """Return how far a chain was sealed."""
        return max(self.chains.get(chain, {}), default=0)

    def continues_with(self, seal: Seal) -> bool:
        """Say whether a seal is the next one."""
        number = self.newest.number + 1 if self.newest else 1
        return (seal.number, seal.previous) == (number, digest(self.last_line))

    def add(self, seal: Seal, line: str) -> None:
        """Take one more seal; what an earlier one said of a position stands."""
        for chain, (position, hash_) in seal.heads.items():
            self.chains[chain].setdefault(position, bytes.fromhex(hash_))
        self.newest, self.last_line = seal, line


class SealStore(Protocol):
    """A place for seals, outside the database. Lines are added and read, never changed."""

    async def lines(self) -> list[str]:
        """Return every seal, oldest first."""

    async def newest(self) -> str:
        """Return the newest seal, or an empty text."""

    async def add(self, seal: Seal, line: str) -> None:
        """Keep one more seal, durably."""


class NoSeals:
    """The place of a system that keeps no seals."""

    async def lines(self) -> list[str]:
        return []

    async def newest(self) -> str:
        return ""

    async def add(self, seal: Seal, line: str) -> None:
        raise RuntimeError("AUDIT_SEALS names no place for seals")


class FolderOfSeals:
    """A file for each month in a folder, which may be mounted from another machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def lines(self) -> list[str]:
        return await to_thread.run_sync(self._lines, self._files())

    async def newest(self) -> str:
        lines = await to_thread.run_sync(self._lines, self._files()[-1:])
        return lines[-1] if lines else ""

    async def add(self, seal: Seal, line: str) -> None:
        await to_thread.run_sync(self._add, seal, line)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(_FILES))

    @staticmethod
    def _lines(files: Iterable[Path]) -> list[str]:
        return [line for path in files for line in path.read_text().splitlines() if line]

    def _add(self, seal: Seal, line: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"seals-{seal.sealed_at:%Y-%m}.jws"
        # A line break on both sides: a line that a crash cut short spoils no other.
        with path.open("ab") as file:
            file.write(f"\n{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def store_at(place: Path | None) -> SealStore:
    """Return the store that a setting names."""
    return FolderOfSeals(place) if place else NoSeals()


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
        """Return what all the seals say."""
        lines = await self._store.lines()
        return await to_thread.run_sync(self._read, lines)

    def _read(self, lines: Iterable[str]) -> Evidence:
        evidence = Evidence()
        for line in lines:
            # A line that cannot be read was cut short by a crash, or is missed by the next one.
            with suppress(ValueError, JoseError):
                seal = Seal.model_validate_json(_payload(line))
                if not evidence.continues_with(seal):
                    evidence.fault = f"Seal {seal.number} does not follow the one before it."
                    return evidence
                evidence.add(seal, line)
        if evidence.last_line and not self._is_signed(evidence.last_line):
            evidence.fault = "The newest seal does not have our signature."
        return evidence

    def _is_signed(self, line: str) -> bool:
        try:
            read = jws.deserialize_compact(line, self._keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            return False
        return read.headers().get("typ") == SEAL_TYPE


def digest(line: str) -> str:
    """Return the hash by which a seal names the one before; nothing stands before the first."""
    return hashlib.sha256(line.encode()).hexdigest() if line else ""


def _payload(line: str) -> bytes:
    read: Any = jws.extract_compact(line.encode())
    payload: bytes = read.payload
    return payload


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
        """Seal the heads that moved, if it is due; return the new seal."""
        evidence = await self._known()
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
        await self._store.add(seal, line)
        evidence.add(seal, line)
        return seal

    async def _known(self) -> Evidence:
        """Return what is sealed, read again when another worker has sealed meanwhile."""
        newest = await self._store.newest()
        if self._evidence is None or self._evidence.last_line != newest:
            self._evidence = await self._reader.evidence()
        return self._evidence
