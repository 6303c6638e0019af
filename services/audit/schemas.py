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


class Filters(BaseModel):
    """Which rows are requested; a filter that is None lets every row through."""

    user_id: int | None = None
    action: str | None = None
    entity_type: str | None = None
    entity_id: int | None = None
    correlation_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    organization_id: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the filters that are set, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True)

    def within(self, organization_id: int | None) -> "Filters":
        """Return the same filters for one organization, or for all if it is None."""
        return self.model_copy(update={"organization_id": organization_id})


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
