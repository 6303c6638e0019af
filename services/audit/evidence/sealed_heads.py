"""Evidence: the heads that the seals hold, stored while chains are compared with them."""

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
    """The content of one seal; `previous` and the heads' hashes are hexadecimal."""

    number: int
    sealed_at: datetime
    previous: str
    heads: dict[int, tuple[int, str]]


def seal_of(line: str) -> Seal | None:
    """Return the content of a seal's line, or None if it is none; no signature is checked."""
    try:
        return Seal.model_validate_json(jws.extract_compact(line.encode()).payload)
    except (ValueError, JoseError):
        return None


def digest(line: str) -> str:
    """Return the hash by which a seal names the line before it; empty for the first seal."""
    return hashlib.sha256(line.encode()).hexdigest() if line else ""


class SealedHeads(Mapping[int, bytes]):
    """The sealed heads of one chain: position → hash, in the order of positions."""

    def __init__(self, database: sqlite3.Connection, chain: int) -> None:
        self._database, self._chain = database, chain

    def __getitem__(self, position: int) -> bytes:
        statement = "SELECT hash FROM heads WHERE chain = ? AND position = ?"
        row = self._database.execute(statement, (self._chain, position)).fetchone()
        if row is None:
            raise KeyError(position)
        hash_: bytes = row[0]
        return hash_

    def __iter__(self) -> Iterator[int]:
        statement = "SELECT position FROM heads WHERE chain = ? ORDER BY position"
        return (position for (position,) in self._database.execute(statement, (self._chain,)))

    def __len__(self) -> int:
        statement = "SELECT count(*) FROM heads WHERE chain = ?"
        return int(self._database.execute(statement, (self._chain,)).fetchone()[0])

    @property
    def newest(self) -> int:
        """The newest sealed position; 0 if no seal names the chain."""
        statement = "SELECT max(position) FROM heads WHERE chain = ?"
        return self._database.execute(statement, (self._chain,)).fetchone()[0] or 0


class Evidence:
    """The content of all seals, or the fault for which they cannot be trusted.

    The heads are in a temporary file, which is deleted with this object: years of seals are more
    than memory should hold, and a chain is compared with few of them at a time.
    """

    def __init__(self) -> None:
        self.newest: Seal | None = None
        self.last_line = ""
        self.fault: str | None = None
        # The empty name makes a temporary file in SQLite. Only one thread at a time uses it.
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute(_TABLE)
        weakref.finalize(self, self._database.close)

    def of(self, organization_id: int | None) -> SealedHeads:
        """Return the sealed heads of an organization's chain."""
        return SealedHeads(self._database, chain_of(organization_id))

    def chains(self) -> set[int]:
        """Return the chains that a seal names."""
        return {chain for (chain,) in self._database.execute("SELECT DISTINCT chain FROM heads")}

    def sealed_position(self, chain: int) -> int:
        """Return the newest sealed position of a chain; 0 if there is none."""
        return SealedHeads(self._database, chain).newest

    def continues_with(self, seal: Seal) -> bool:
        """Return whether a seal is the next one."""
        number = self.newest.number + 1 if self.newest else 1
        return (seal.number, seal.previous) == (number, digest(self.last_line))

    def add(self, seal: Seal, line: str) -> None:
        """Add one more seal; an earlier seal of the same position has precedence."""
        self._database.executemany(
            "INSERT OR IGNORE INTO heads VALUES (?, ?, ?)",
            [
                (chain, position, bytes.fromhex(hash_))
                for chain, (position, hash_) in seal.heads.items()
            ],
        )
        self.newest, self.last_line = seal, line
