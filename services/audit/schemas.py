"""The bodies of responses, and the filters of a reader."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel


class AuditLogRead(BaseModel):
    """One change: who made it, from where, and the values before and after it."""

    id: int
    user_id: int | None
    organization_id: int | None
    action: str
    entity_type: str
    entity_id: int | None
    old_values: dict[str, Any]
    new_values: dict[str, Any]
    ip_address: str | None
    user_agent: str | None
    created_at: datetime
    event_id: str
    correlation_id: str
    service: str
    envelope: dict[str, Any]
    position: int
    previous_hash: str
    hash: str


class ExportFormat(StrEnum):
    """How an export is written."""

    CSV = "csv"
    NDJSON = "ndjson"


class Failure(BaseModel):
    """The first row of a chain that is not as it was written."""

    kind: Literal[
        "altered", "inserted", "removed", "missing_at_the_end", "rewritten", "seal_broken"
    ]
    position: int
    row_id: int | None
    event_id: str | None
    detail: str


class ChainReport(BaseModel):
    """The result of verifying a chain. `first` and `last` are positions; organization null has its
    own chain. `sealed` is the newest position that a signed seal outside the database holds.
    """

    organization_id: int | None
    first: int
    last: int
    rows: int
    valid: bool
    failure: Failure | None
    sealed: int | None


def audit_log_read(row: Mapping[str, Any]) -> AuditLogRead:
    """Return a stored row as the API shows it, with hashes in hexadecimal."""
    hashes = {name: row[name].hex() for name in ("hash", "previous_hash")}
    return AuditLogRead.model_validate({**row, **hashes})
