"""The hash chain: each row of an organization carries the hash of the one before."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.audit.evidence.canonical import Writer, canonical
from services.audit.models import NO_ORGANIZATION, AuditLog

GENESIS = bytes(32)
"""What the first row of every chain carries as the hash before it."""

COVERED = tuple(
    column.name
    for column in AuditLog.__table__.columns
    if column.name not in ("hash", "previous_hash")
)
"""The columns that a row's hash covers beside the previous hash: every other one."""

_PIECES = (
    [name for name in COVERED if name < "id"],
    [name for name in COVERED if "id" < name < "position"],
    [name for name in COVERED if name > "position"],
)

Values = Mapping[str, Any]


@dataclass(slots=True)
class Head:
    """The end of a chain: how many rows it has had, and the hash of the last."""

    position: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The end of a chain as its head has it, and the highest position that a row has."""

    position: int
    hash: bytes
    newest_row: int


def chain_of(organization_id: int | None) -> int:
    """Return the chain that an organization's rows are in."""
    return NO_ORGANIZATION if organization_id is None else organization_id


def hash_of(row: Values) -> bytes:
    """Return what a row's hash must be: SHA-256 of the previous hash and the canonical row."""
    covered = {name: row[name] for name in COVERED}
    covered["created_at"] = instant_text(row["created_at"])
    return hashlib.sha256(row["previous_hash"] + canonical(covered)).digest()


@dataclass(frozen=True, slots=True)
class Text:
    """A row's canonical text without its id and position, which only the writing gives it.

    The three pieces stand before, between and behind those two.
    """

    pieces: tuple[bytes, bytes, bytes]

    @classmethod
    def of(cls, row: Values, write: Writer = canonical) -> "Text":
        """Return the text of a row; what else it holds than covered columns plays no part."""
        told = {**row, "created_at": instant_text(row["created_at"])}
        before, between, behind = (
            write({name: told[name] for name in names})[1:-1] for names in _PIECES
        )
        return cls((before, between, behind))

    def hash(self, previous: bytes, id_: int, position: int) -> bytes:
        """Return what `hash_of` returns of the row in its place."""
        before, between, behind = self.pieces
        return hashlib.sha256(
            b'%b{%b,"id":%b,%b,"position":%b,%b}'
            % (previous, before, canonical(id_), between, canonical(position), behind)
        ).digest()


def append(head: Head, text: Text, id_: int) -> dict[str, Any]:
    """Make a new row the end of its chain; return the columns that are its place there."""
    position, previous = head.position + 1, head.hash
    head.position, head.hash = position, text.hash(previous, id_, position)
    return {"id": id_, "position": position, "previous_hash": previous, "hash": head.hash}


def instant_text(instant: datetime) -> str:
    """Return an instant as it is hashed: UTC, always with microseconds."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
