"""Routes of one organization's audit log."""

from fastapi.responses import StreamingResponse

from services.audit.endpoints.dependencies import (
    ExportOptionsDep,
    FiltersDep,
    PositionRangeDep,
    SealReaderDep,
)
from services.audit.endpoints.downloads import EXPORT_RESPONSES, download_of
from services.audit.errors import OrganizationNotFound
from services.audit.schemas import AuditLogRead, ChainReport
from services.audit.service import audit_logs, exports, verification
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, UnclaimedWorkDep

members = router(
    prefix="/api/organizations/{organization_id}/audit-logs",
    tags=["audit"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


@members.get("")
async def list_rows(
    organization_id: Id, actor: ActorDep, filters: FiltersDep, page: PageDep, session: SessionDep
) -> list[AuditLogRead]:
    """List an organization's changes, newest first."""
    return await audit_logs.list_rows(session, actor, organization_id, page, filters)


@members.get("/export", response_class=StreamingResponse, responses=EXPORT_RESPONSES)
async def export_rows(
    organization_id: Id,
    actor: ActorDep,
    filters: FiltersDep,
    work: UnclaimedWorkDep,
    options: ExportOptionsDep,
) -> StreamingResponse:
    """Export an organization's changes. Needs a sign-in of the last 15 minutes."""
    pieces = await exports.export_rows(
        work, actor, organization_id, filters, options.format, with_bom=options.with_bom
    )
    return download_of(pieces, options.format)


@members.get("/verify")
async def verify_rows(
    organization_id: Id,
    actor: ActorDep,
    seals: SealReaderDep,
    work: UnclaimedWorkDep,
    within: PositionRangeDep,
) -> ChainReport:
    """Verify an organization's chain, or a range of it, and name the first row that is wrong."""
    return await verification.verify_rows(
        work, actor, seals, organization_id, first=within.first, last=within.last
    )
