"""Routes of series of sessions."""

from services.vouchers.errors import (
    CapacityTaken,
    ClassNotFound,
    ClientBusy,
    ClientNotFound,
    OrganizationNotFound,
    ResourceNotFound,
    SeriesBooked,
    SeriesEnded,
    SeriesNotFound,
    SlotTaken,
)
from services.vouchers.models import SeriesStatus
from services.vouchers.schemas.series import (
    SeriesCreate,
    SeriesDetail,
    SeriesEnd,
    SeriesRead,
    SeriesUpdate,
)
from services.vouchers.service import series_reads, session_series
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, QueryId
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep

organization = router(
    prefix="/api/organizations/{organization_id}/session-series",
    tags=["sessions"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


def _tagged(response: TaggedResponse, series: SeriesDetail) -> SeriesDetail:
    set_etag(response, series.version)
    return series


@organization.get("")
async def list_series(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    therapy_class_id: QueryId | None = None,
    status: SeriesStatus | None = None,
) -> list[SeriesRead]:
    """List the organization's series of sessions, newest first."""
    return await series_reads.list_series(
        session, actor, page, organization_id, therapy_class_id=therapy_class_id, status=status
    )


@organization.post(
    "",
    status_code=201,
    responses=responses(ClassNotFound, ClientNotFound, ResourceNotFound, SlotTaken),
)
async def create_series(
    organization_id: Id,
    body: SeriesCreate,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> SeriesDetail:
    """Create a series and its sessions of the next 26 weeks; later ones follow day by day.

    `conflicts` lists the dates without a session: the clock skips the time, or it is closed or
    taken.
    """
    series = await session_series.create_series(session, actor, organization_id, body)
    return _tagged(response, series)


@organization.get("/{series_id}", responses=responses(SeriesNotFound))
async def get_series(
    organization_id: Id,
    series_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> SeriesDetail:
    """Show a series, with its dates that have no session or one during a closure."""
    series = await series_reads.get_series(session, actor, organization_id, series_id)
    return _tagged(response, series)


@organization.put(
    "/{series_id}",
    responses=responses(
        SeriesNotFound,
        StaleVersion,
        SeriesEnded,
        SeriesBooked,
        CapacityTaken,
        SlotTaken,
        ClientBusy,
        ClientNotFound,
        ResourceNotFound,
        ServiceUnavailable,
    ),
)
async def update_series(
    organization_id: Id,
    series_id: Id,
    body: SeriesUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> SeriesDetail:
    """Change a series from a day on: it ends, and the one in the response continues it.

    Its sessions move along with everybody who booked them. Those without a place in the changed
    series are cancelled; if somebody booked them, only with `release_reservations`.
    """
    series = await session_series.update_series(
        session, actor, organization_id, series_id, body, precondition
    )
    return _tagged(response, series)


@organization.post(
    "/{series_id}/end",
    responses=responses(SeriesNotFound, SeriesEnded, SeriesBooked, ServiceUnavailable),
)
async def end_series(
    organization_id: Id,
    series_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
    body: SeriesEnd | None = None,
) -> SeriesDetail:
    """End a series after a day; later sessions are cancelled."""
    order = body or SeriesEnd()
    series = await session_series.end_series(session, actor, organization_id, series_id, order)
    return _tagged(response, series)
