"""Routes of the whole system's audit trail, for administrators."""

from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from services.audit.endpoints.dependencies import (
    ExportOptionsDep,
    FiltersDep,
    PositionRange,
    PositionRangeDep,
    SealReaderDep,
)
from services.audit.endpoints.downloads import EXPORT_RESPONSES, download_of
from services.audit.schemas import AuditLogRead, ChainReport
from services.audit.service import audit_logs, exports, verification
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import QueryId
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, UnclaimedWorkDep

OrganizationFilter = Annotated[QueryId | None, Query()]

admin = router(
    prefix="/api/admin/audit-logs",
    tags=["audit"],
    responses=responses(Unauthenticated, Forbidden, Invalid),
)


@admin.get("")
async def list_all_rows(
    actor: ActorDep,
    filters: FiltersDep,
    page: PageDep,
    session: SessionDep,
    organization_id: OrganizationFilter = None,
) -> list[AuditLogRead]:
    """List changes in the whole system, newest first."""
    return await audit_logs.list_all_rows(session, actor, organization_id, page, filters)


@admin.get("/export", response_class=StreamingResponse, responses=EXPORT_RESPONSES)
async def export_all_rows(
    actor: ActorDep,
    filters: FiltersDep,
    work: UnclaimedWorkDep,
    options: ExportOptionsDep,
    organization_id: OrganizationFilter = None,
) -> StreamingResponse:
    """Export changes in the whole system. Needs a sign-in of the last 15 minutes."""
    pieces = await exports.export_all_rows(
        work, actor, organization_id, filters, options.format, with_bom=options.with_bom
    )
    return download_of(pieces, options.format)


@admin.get("/verify")
async def verify_all_chains(
    actor: ActorDep,
    seals: SealReaderDep,
    work: UnclaimedWorkDep,
    within: PositionRangeDep,
    organization_id: OrganizationFilter = None,
) -> list[ChainReport]:
    """Verify every chain, or one organization's or a range of it, and report on each."""
    if organization_id is None and within != PositionRange():
        raise Invalid("organization_id", "is needed with first and last: each has its own chain")
    return await verification.verify_all_chains(
        work, actor, seals, organization_id, first=within.first, last=within.last
    )
