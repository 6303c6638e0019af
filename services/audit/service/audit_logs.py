"""Use cases of readers: list the trail; and each reading is recorded in the trail itself."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.access import require_admin, require_reader
from services.audit.queries.audit_logs import Filters
from services.audit.schemas import AuditLogRead, audit_log_read
from shared.actors import Actor
from shared.changes import record_fact
from shared.paging import Page


async def list_all_rows(
    session: AsyncSession,
    actor: Actor,
    organization_id: int | None,
    page: Page,
    filters: Filters,
) -> list[AuditLogRead]:
    """Return a page of the whole system's trail, or of one organization's.

    Raises Forbidden for everyone except administrators of the system.
    """
    require_admin(actor)
    return await _list(session, page, filters.within(organization_id))


async def list_rows(
    session: AsyncSession, actor: Actor, organization_id: int, page: Page, filters: Filters
) -> list[AuditLogRead]:
    """Return a page of an organization's trail. Raises OrganizationNotFound and Forbidden."""
    require_reader(actor, organization_id)
    return await _list(session, page, filters.within(organization_id))


async def _list(session: AsyncSession, page: Page, filters: Filters) -> list[AuditLogRead]:
    record_reading(session, "list", filters)
    return [audit_log_read(row) for row in await queries.page_of_rows(session, page, filters)]


def record_reading(session: AsyncSession, how: str, filters: Filters) -> None:
    """Record that a user reads the trail, in the transaction of the reading.

    This service receives the event like every other one, and it becomes a row of the trail.
    """
    record_fact(
        session,
        "READ",
        "audit_log",
        organization_id=filters.organization_id,
        details={"how": how, "filters": filters.as_json()},
    )
