"""The hash chain: each row of an organization carries the hash of the one before."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.audit.canonical import canonical
from services.audit.models import NO_ORGANIZATION, AuditLog

GENESIS = bytes(32)
"""What the first row of every chain carries as the hash before it."""

COVERED = tuple(
    column.name
    for column in AuditLog.__table__.columns
    if column.name not in ("hash", "previous_hash")
)
"""The columns that a row's hash covers beside the previous hash: every other one."""

Values = Mapping[str, Any]


@dataclass(slots=True)
class Head:
    """The end of a chain: how many rows it has had, and the hash of the last."""

    position: int = 0
    hash: bytes = GENESIS


def chain_of(organization_id: int | None) -> int:
    """Return the chain that an organization's rows are in."""
    return NO_ORGANIZATION if organization_id is None else organization_id


def hash_of(row: Values) -> bytes:
    """Return what a row's hash must be: SHA-256 of the previous hash and the canonical row."""
    covered = {name: row[name] for name in COVERED}
    covered["created_at"] = instant_text(row["created_at"])
    return hashlib.sha256(row["previous_hash"] + canonical(covered)).digest()


def append(head: Head, row: dict[str, Any]) -> None:
    """Make a new row the end of its chain: sets its position and both hashes."""
    row["position"] = head.position + 1
    row["previous_hash"] = head.hash
    row["hash"] = hash_of(row)
    head.position, head.hash = row["position"], row["hash"]


def instant_text(instant: datetime) -> str:
    """Return an instant as it is hashed: UTC, always with microseconds."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
