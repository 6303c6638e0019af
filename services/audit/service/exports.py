"""Use cases of readers: export the trail as CSV or as lines of JSON."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.access import require_admin, require_reader
from services.audit.queries.audit_logs import Filters
from services.audit.schemas import AuditLogRead, ExportFormat, audit_log_read
from services.audit.service.audit_logs import record_reading
from shared import csv_files
from shared.actors import Actor
from shared.work import Work

CSV_COLUMNS = tuple(AuditLogRead.model_fields)


async def export_all_rows(
    work: Work,
    actor: Actor,
    organization_id: int | None,
    filters: Filters,
    form: ExportFormat,
    *,
    with_bom: bool,
) -> AsyncIterator[bytes]:
    """Return an export of the whole system's trail, or of one organization's, piece by piece.

    Raises Forbidden for everyone except administrators of the system, and
    ReauthenticationRequired.
    """
    require_admin(actor)
    actor.require_recent_sign_in()
    return await _export(work, filters.within(organization_id), form, with_bom)


async def export_rows(
    work: Work,
    actor: Actor,
    organization_id: int,
    filters: Filters,
    form: ExportFormat,
    *,
    with_bom: bool,
) -> AsyncIterator[bytes]:
    """Return an export of an organization's trail, piece by piece.

    Raises OrganizationNotFound, Forbidden and ReauthenticationRequired.
    """
    require_reader(actor, organization_id)
    actor.require_recent_sign_in()
    return await _export(work, filters.within(organization_id), form, with_bom)


async def _export(
    work: Work, filters: Filters, form: ExportFormat, with_bom: bool
) -> AsyncIterator[bytes]:
    # Committed before the first byte is sent: an export that breaks off was a reading, too.
    async with work.begin() as session:
        record_reading(session, f"export as {form}", filters)

    async def pieces() -> AsyncIterator[bytes]:
        async with work.begin() as session:
            async for piece in stream_export(session, filters, form, with_bom=with_bom):
                yield piece

    return pieces()


async def stream_export(
    session: AsyncSession, filters: Filters, form: ExportFormat, *, with_bom: bool = False
) -> AsyncIterator[bytes]:
    """Yield an export piece by piece; memory holds a thousand rows, however many there are."""
    if form is ExportFormat.CSV:
        yield csv_files.head(CSV_COLUMNS, with_bom=with_bom)
    write = _WRITERS[form]
    async for rows in queries.stream_rows(session, filters):
        yield write([audit_log_read(row) for row in rows])


def _as_ndjson(rows: Sequence[AuditLogRead]) -> bytes:
    return b"".join(row.model_dump_json().encode() + b"\n" for row in rows)


def _as_csv(rows: Sequence[AuditLogRead]) -> bytes:
    as_json = partial(json.dumps, ensure_ascii=False, sort_keys=True)
    return csv_files.lines(
        [
            as_json(value) if isinstance(value, dict) else value
            for value in row.model_dump(mode="json").values()
        ]
        for row in rows
    )


_WRITERS: Mapping[ExportFormat, Callable[[Sequence[AuditLogRead]], bytes]] = {
    ExportFormat.CSV: _as_csv,
    ExportFormat.NDJSON: _as_ndjson,
}
