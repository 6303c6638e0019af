"""What goes out, and what a reader may ask for."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BaseModel

from shared.fields import Instant, Name, QueryId


class AuditLogRead(BaseModel):
    """One change: who, from where, what was before and what is since."""

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
    """Which rows are asked for; a filter that is not given lets everything through."""

    user_id: int | None = None
    action: str | None = None
    entity_type: str | None = None
    entity_id: int | None = None
    correlation_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    organization_id: int | None = None

    def given(self) -> dict[str, Any]:
        """Return the filters that were given, as JSON holds them."""
        return self.model_dump(mode="json", exclude_none=True)


Id = Annotated[QueryId | None, Query()]
Line = Annotated[Name | None, Query()]


async def wanted_rows(
    user_id: Annotated[QueryId | None, Query(description="Who made the change")] = None,
    action: Line = None,
    entity_type: Line = None,
    entity_id: Id = None,
    correlation_id: Annotated[Name | None, Query(description="The request id")] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Inclusive")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Exclusive")] = None,
) -> Filters:
    """Read the filters of a request."""
    return Filters(
        user_id=user_id,
        action=action,
        entity_type=entity_type,
        entity_id=entity_id,
        correlation_id=correlation_id,
        begin=begin,
        end=end,
    )


FiltersDep = Annotated[Filters, Depends(wanted_rows)]


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
    """What walking a chain showed. `first` and `last` are positions; organization null has its
    own chain. `sealed` is the newest position that a signed seal outside the database vouches for.
    """

    organization_id: int | None
    first: int
    last: int
    rows: int
    valid: bool
    failure: Failure | None
    sealed: int | None


def shown(row: Mapping[str, Any]) -> AuditLogRead:
    """Return a stored row as it goes out: hashes in hexadecimal."""
    hashes = {name: row[name].hex() for name in ("hash", "previous_hash")}
    return AuditLogRead.model_validate({**row, **hashes})
