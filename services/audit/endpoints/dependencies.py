"""The dependencies of this service's routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from services.audit.queries.audit_logs import Filters
from services.audit.schemas import ExportFormat
from services.audit.service.seals import SealReader
from shared import csv_files
from shared.errors import Invalid
from shared.fields import Instant, Name, QueryId

IdFilter = Annotated[QueryId | None, Query()]
TextFilter = Annotated[Name | None, Query()]


async def read_filters(
    user_id: Annotated[QueryId | None, Query(description="Who made the change")] = None,
    action: TextFilter = None,
    entity_type: TextFilter = None,
    entity_id: IdFilter = None,
    correlation_id: Annotated[Name | None, Query(description="The request id")] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Inclusive")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Exclusive")] = None,
) -> Filters:
    """Return the filters in the query of a request."""
    return Filters(
        user_id=user_id,
        action=action,
        entity_type=entity_type,
        entity_id=entity_id,
        correlation_id=correlation_id,
        begin=begin,
        end=end,
    )


FiltersDep = Annotated[Filters, Depends(read_filters)]
"""The filters of a list or an export, without an organization."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """In which format the rows are exported, and whether a CSV begins with a byte order mark."""

    format: ExportFormat
    with_bom: bool


async def read_export_options(
    form: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.CSV,
    with_bom: csv_files.WithBom = False,
) -> ExportOptions:
    """Return the options of an export. Raises Invalid for a byte order mark without CSV."""
    csv_files.check_bom(with_bom, is_csv=form is ExportFormat.CSV)
    return ExportOptions(form, with_bom)


ExportOptionsDep = Annotated[ExportOptions, Depends(read_export_options)]

Position = Annotated[QueryId | None, Query(description="A position in the chain, inclusive")]


@dataclass(frozen=True, slots=True)
class PositionRange:
    """A range of positions in a chain, both inclusive; `last` is None for the chain's end."""

    first: int = 1
    last: int | None = None


async def read_position_range(first: Position = None, last: Position = None) -> PositionRange:
    """Return the range of positions. Raises Invalid if it ends before it begins."""
    if last is not None and last < (first or 1):
        raise Invalid("last", "must not be before first")
    return PositionRange(first or 1, last)


PositionRangeDep = Annotated[PositionRange, Depends(read_position_range)]


async def _seal_reader(request: Request) -> SealReader:
    seal_reader: SealReader = request.app.state.seal_reader
    return seal_reader


SealReaderDep = Annotated[SealReader, Depends(_seal_reader)]
