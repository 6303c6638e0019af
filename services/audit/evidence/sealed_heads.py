"""Evidence: what the seals say, kept aside for as long as somebody compares a chain with it."""

import hashlib
import sqlite3
import weakref
from collections.abc import Iterator, Mapping
from datetime import datetime

from joserfc import jws
from joserfc.errors import JoseError
from pydantic import BaseModel

from services.audit.evidence.chain import chain_of

_TABLE = (
    "CREATE TABLE heads (chain INTEGER, position INTEGER, hash BLOB,"
    " PRIMARY KEY (chain, position)) WITHOUT ROWID"
)


class Seal(BaseModel):
    """What one seal says; `previous` and the heads' hashes are hexadecimal."""

    number: int
    sealed_at: datetime
    previous: str
    heads: dict[int, tuple[int, str]]


def seal_of(line: str) -> Seal | None:
    """Return what a seal's line says, signed or not, or None when it is no seal."""
    try:
        return Seal.model_validate_json(jws.extract_compact(line.encode()).payload)
    except (ValueError, JoseError):
        return None


def digest(line: str) -> str:
    """Return the hash by which a seal names the one before; nothing stands before the first."""
    return hashlib.sha256(line.encode()).hexdigest() if line else ""


class SealedHeads(Mapping[int, bytes]):
    """What the seals say of one chain: position → hash, in the order of positions."""

    def __init__(self, kept: sqlite3.Connection, chain: int) -> None:
        self._kept, self._chain = kept, chain

    def __getitem__(self, position: int) -> bytes:
        statement = "SELECT hash FROM heads WHERE chain = ? AND position = ?"
        found = self._kept.execute(statement, (self._chain, position)).fetchone()
        if found is None:
            raise KeyError(position)
        hash_: bytes = found[0]
        return hash_

    def __iter__(self) -> Iterator[int]:
        statement = "SELECT position FROM heads WHERE chain = ? ORDER BY position"
        return (position for (position,) in self._kept.execute(statement, (self._chain,)))

    def __len__(self) -> int:
        statement = "SELECT count(*) FROM heads WHERE chain = ?"
        return int(self._kept.execute(statement, (self._chain,)).fetchone()[0])

    @property
    def newest(self) -> int:
        """How far the chain was sealed; 0 when it never was."""
        statement = "SELECT max(position) FROM heads WHERE chain = ?"
        return self._kept.execute(statement, (self._chain,)).fetchone()[0] or 0


class Evidence:
    """Everything that the seals say, or why they cannot be believed.

    It stands in a temporary file that goes with it: years of seals are more than memory should
    hold, and a chain is compared with few of them at a time.
    """

    def __init__(self) -> None:
        self.newest: Seal | None = None
        self.last_line = ""
        self.fault: str | None = None
        # No name is SQLite's word for a temporary file. One thread at a time uses it.
        self._kept = sqlite3.connect("", check_same_thread=False)
        self._kept.execute(_TABLE)
        weakref.finalize(self, self._kept.close)

    def of(self, organization_id: int | None) -> SealedHeads:
        """Return what the seals say of an organization's chain."""
        return SealedHeads(self._kept, chain_of(organization_id))

    def chains(self) -> set[int]:
        """Return the chains of which a seal tells."""
        return {chain for (chain,) in self._kept.execute("SELECT DISTINCT chain FROM heads")}

    def sealed_position(self, chain: int) -> int:
        """Return how far a chain was sealed."""
        return SealedHeads(self._kept, chain).newest

    def continues_with(self, seal: Seal) -> bool:
        """Say whether a seal is the next one."""
        number = self.newest.number + 1 if self.newest else 1
        return (seal.number, seal.previous) == (number, digest(self.last_line))

    def add(self, seal: Seal, line: str) -> None:
        """Take one more seal; what an earlier one said of a position stands."""
        self._kept.executemany(
            "INSERT OR IGNORE INTO heads VALUES (?, ?, ?)",
            [
                (chain, position, bytes.fromhex(hash_))
                for chain, (position, hash_) in seal.heads.items()
            ],
        )
        self.newest, self.last_line = seal, line
