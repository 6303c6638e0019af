"""The hash chain: each row of an organization carries the hash of the one before."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from services.audit.evidence.canonical import NUL, Writer, canonical, write_plain
from services.audit.models import NO_ORGANIZATION, AuditLog

GENESIS = bytes(32)
"""The previous hash of the first row of every chain."""

COVERED = tuple(
    column.name
    for column in AuditLog.__table__.columns
    if column.name not in ("hash", "previous_hash")
)
"""The columns that a row's hash covers, and the previous hash: all but the hash itself."""

_PIECES = (
    [name for name in COVERED if name < "id"],
    [name for name in COVERED if "id" < name < "position"],
    [name for name in COVERED if name > "position"],
)

_GAP = b"\x00"  # never in a text: it is escaped there
_GAPS = {name: orjson.Fragment(_GAP) for name in ("id", "position")}

Values = Mapping[str, Any]


@dataclass(slots=True)
class Head:
    """The head of a chain: the position of its last row, and that row's hash."""

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
    """Return the hash that a row must have: SHA-256 of the previous hash and the canonical row."""
    return hashlib.sha256(row["previous_hash"] + canonical(covered_values(row))).digest()


def covered_values(row: Values) -> dict[str, Any]:
    """Return the values that a row's hash covers, as they are hashed."""
    values = {name: row[name] for name in COVERED}
    values["created_at"] = instant_text(row["created_at"])
    return values


@dataclass(frozen=True, slots=True)
class Text:
    """A row's canonical text without its id and position, which are known only when it is written.

    The three pieces are the text before, between and behind those two numbers.
    """

    pieces: Sequence[bytes]

    @classmethod
    def of(cls, row: Values, write: Writer = canonical) -> "Text":
        """Return the text of a row. Only its covered columns are used."""
        values = {**row, "created_at": instant_text(row["created_at"])}
        before, between, behind = (
            write({name: values[name] for name in names})[1:-1] for names in _PIECES
        )
        return cls((b'{%b,"id":' % before, b',%b,"position":' % between, b",%b}" % behind))

    @classmethod
    def of_plain(cls, row: Values) -> "Text | None":
        """Return the same of a row that has just the covered columns, in one step.

        All values are plain; those of JSON may be fragments. Returns None for a row with NUL, which
        the database does not store, and raises JSONEncodeError for an integer that a double cannot
        hold.
        """
        instant = instant_text(row["created_at"])
        text = write_plain({**row, **_GAPS, "created_at": instant})
        return None if NUL in text else cls(text.split(_GAP))

    def hash(self, previous: bytes, id_: int, position: int) -> bytes:
        """Return the hash of the row at this id and position, equal to what `hash_of` returns."""
        before, between, behind = self.pieces
        id_text, position_text = canonical(id_), canonical(position)
        return hashlib.sha256(
            b"".join((previous, before, id_text, between, position_text, behind))
        ).digest()


def append(head: Head, text: Text, id_: int) -> dict[str, Any]:
    """Append a row to its chain; move the head, and return the row's id, position and hashes."""
    position, previous = head.position + 1, head.hash
    head.position, head.hash = position, text.hash(previous, id_, position)
    return {"id": id_, "position": position, "previous_hash": previous, "hash": head.hash}


def instant_text(instant: datetime) -> str:
    """Return an instant as it is hashed: UTC, always with microseconds."""
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")
