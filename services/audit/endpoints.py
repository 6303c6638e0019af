"""Routes: parse, call, return."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import StreamingResponse

from services.audit.errors import OrganizationNotFound
from services.audit.evidence.sealed_heads import Evidence
from services.audit.schemas import (
    AuditLogRead,
    ChainReport,
    ExportFormat,
    Filters,
    FiltersDep,
)
from services.audit.service import audit_logs
from services.audit.service.seals import SealReader
from services.audit.service.verification import verify_chain, verify_everything
from shared import csv_files
from shared.actors import Actor
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id, QueryId
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, UnclaimedWorkDep
from shared.work import Work

_MEDIA_TYPES = {
    ExportFormat.CSV: csv_files.MEDIA_TYPE,
    ExportFormat.NDJSON: "application/x-ndjson",
}
_EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Every row that the filters let through, newest first.",
        "content": {media.partition(";")[0]: {} for media in _MEDIA_TYPES.values()},
    }
}

admin = router(
    prefix="/api/admin/audit-logs",
    tags=["audit"],
    responses=responses(Unauthenticated, Forbidden, Invalid),
)
members = router(
    prefix="/api/organizations/{organization_id}/audit-logs",
    tags=["audit"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


async def _admin(actor: ActorDep) -> Actor:
    audit_logs.require_admin(actor)
    return actor


async def _reader(organization_id: Id, actor: ActorDep) -> Actor:
    audit_logs.require_reader(actor, organization_id)
    return actor


async def _everywhere(
    _actor: Annotated[Actor, Depends(_admin)],
    filters: FiltersDep,
    organization_id: Annotated[QueryId | None, Query()] = None,
) -> Filters:
    return filters.model_copy(update={"organization_id": organization_id})


async def _within(
    organization_id: Id, _actor: Annotated[Actor, Depends(_reader)], filters: FiltersDep
) -> Filters:
    return filters.model_copy(update={"organization_id": organization_id})


async def _evidence(request: Request) -> Evidence:
    seals: SealReader = request.app.state.seals
    return await seals.evidence()


AdminDep = Annotated[Actor, Depends(_admin)]
ReaderDep = Annotated[Actor, Depends(_reader)]
EverywhereDep = Annotated[Filters, Depends(_everywhere)]
WithinDep = Annotated[Filters, Depends(_within)]
# Before the session: no transaction is open while the place of the seals is asked.
EvidenceDep = Annotated[Evidence, Depends(_evidence)]
Position = Annotated[QueryId | None, Query(description="A position in the chain, inclusive")]


@dataclass(frozen=True, slots=True)
class Range:
    """A range of positions, all of a chain by default."""

    first: int
    last: int | None


async def _range(first: Position = None, last: Position = None) -> Range:
    if last is not None and last < (first or 1):
        raise Invalid("last", "must not be before first")
    return Range(first or 1, last)


RangeDep = Annotated[Range, Depends(_range)]


@admin.get("")
async def list_all_rows(
    filters: EverywhereDep, page: PageDep, session: SessionDep
) -> list[AuditLogRead]:
    """List changes in the whole system, newest first."""
    return await audit_logs.list_rows(session, page, filters)


@admin.get("/export", response_class=StreamingResponse, responses=_EXPORTED)
async def export_all_rows(
    filters: EverywhereDep,
    work: UnclaimedWorkDep,
    form: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.CSV,
    with_bom: csv_files.WithBom = False,
) -> StreamingResponse:
    """Export changes in the whole system."""
    return await _export(work, filters, form, with_bom)


@admin.get("/verify")
async def verify_all_chains(
    _actor: AdminDep,
    evidence: EvidenceDep,
    session: SessionDep,
    within: RangeDep,
    organization_id: Annotated[QueryId | None, Query()] = None,
) -> list[ChainReport]:
    """Walk every chain, or one organization's or a range of it, and report on each."""
    if organization_id is None and within != Range(1, None):
        raise Invalid("organization_id", "is needed with first and last: each has its own chain")
    audit_logs.record_reading(session, "verify", Filters(organization_id=organization_id))
    if organization_id is None:
        return await verify_everything(session, evidence)
    first, last = within.first, within.last
    return [await verify_chain(session, organization_id, evidence, first=first, last=last)]


@members.get("")
async def list_rows(
    organization_id: Id, filters: WithinDep, page: PageDep, session: SessionDep
) -> list[AuditLogRead]:
    """List an organization's changes, newest first."""
    return await audit_logs.list_rows(session, page, filters)


@members.get("/export", response_class=StreamingResponse, responses=_EXPORTED)
async def export_rows(
    organization_id: Id,
    filters: WithinDep,
    work: UnclaimedWorkDep,
    form: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.CSV,
    with_bom: csv_files.WithBom = False,
) -> StreamingResponse:
    """Export an organization's changes."""
    return await _export(work, filters, form, with_bom)


@members.get("/verify")
async def verify_rows(
    organization_id: Id,
    _actor: ReaderDep,
    evidence: EvidenceDep,
    session: SessionDep,
    within: RangeDep,
) -> ChainReport:
    """Walk an organization's chain, or a range of it, and name the first row that is wrong."""
    audit_logs.record_reading(session, "verify", Filters(organization_id=organization_id))
    first, last = within.first, within.last
    return await verify_chain(session, organization_id, evidence, first=first, last=last)


async def _export(
    work: Work, filters: Filters, form: ExportFormat, with_bom: bool
) -> StreamingResponse:
    csv_files.check_bom(with_bom, is_csv=form is ExportFormat.CSV)
    async with work.begin() as session:
        audit_logs.record_reading(session, f"export as {form}", filters)

    async def written() -> AsyncIterator[bytes]:
        async with work.begin() as session:
            async for piece in audit_logs.export_rows(session, filters, form, with_bom=with_bom):
                yield piece

    headers = {"Content-Disposition": f'attachment; filename="audit-logs.{form}"'}
    return StreamingResponse(written(), media_type=_MEDIA_TYPES[form], headers=headers)
