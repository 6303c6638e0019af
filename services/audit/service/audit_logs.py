"""Use cases of readers: look, take along; and each reading is a change of its own to the trail."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import policies, queries
from services.audit.errors import OrganizationNotFound
from services.audit.schemas import AuditLogRead, ExportFormat, Filters, shown
from shared import csv_files
from shared.actors import Actor
from shared.changes import note
from shared.errors import Forbidden
from shared.paging import Page

CSV_COLUMNS = tuple(AuditLogRead.model_fields)


def require_admin(actor: Actor) -> None:
    """Raise Forbidden for anybody but an administrator of the system."""
    if not actor.is_admin:
        raise Forbidden("for administrators of the system")


def require_reader(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, and Forbidden for members without permission."""
    if not policies.can_see(actor, organization_id):
        raise OrganizationNotFound
    if not policies.can_read_log(actor, organization_id):
        raise Forbidden("needs the permission view_audit_logs")


async def list_rows(session: AsyncSession, page: Page, filters: Filters) -> list[AuditLogRead]:
    """Return a page of the trail, and record that it was read."""
    record_reading(session, "list", filters)
    return [shown(row) for row in await queries.page_of_rows(session, page, filters)]


def record_reading(session: AsyncSession, how: str, filters: Filters) -> None:
    """Record that somebody reads the trail, in the transaction of the reading.

    The event comes back to us like everybody's and becomes a row of the trail.
    """
    note(
        session,
        "READ",
        "audit_log",
        organization_id=filters.organization_id,
        details={"how": how, "filters": filters.given()},
    )


async def export_rows(
    session: AsyncSession, filters: Filters, form: ExportFormat, *, with_bom: bool = False
) -> AsyncIterator[bytes]:
    """Yield an export piece by piece; memory holds a thousand rows, however many there are."""
    if form is ExportFormat.CSV:
        yield csv_files.head(CSV_COLUMNS, with_bom=with_bom)
    write = _WRITERS[form]
    async for rows in queries.stream_rows(session, filters):
        yield write([shown(row) for row in rows])


def _as_ndjson(rows: Sequence[AuditLogRead]) -> bytes:
    return b"".join(row.model_dump_json().encode() + b"\n" for row in rows)


def _as_csv(rows: Sequence[AuditLogRead]) -> bytes:
    return csv_files.lines([_cell(value) for value in _plain(row).values()] for row in rows)


def _plain(row: AuditLogRead) -> Mapping[str, Any]:
    return row.model_dump(mode="json")


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


_WRITERS: Mapping[ExportFormat, Callable[[Sequence[AuditLogRead]], bytes]] = {
    ExportFormat.CSV: _as_csv,
    ExportFormat.NDJSON: _as_ndjson,
}
