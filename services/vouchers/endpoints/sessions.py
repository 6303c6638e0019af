"""Routes of classes and sessions."""

from fastapi import Response

from services.vouchers.endpoints.dependencies import StretchDep
from services.vouchers.errors import (
    CapacityTaken,
    ClassNotFound,
    ClientBusy,
    ClientNotFound,
    OrganizationNotFound,
    ResourceNotFound,
    RoomTaken,
    SessionCancelled,
    SessionNotFound,
    SessionPast,
    SlotTaken,
)
from services.vouchers.models import SessionStatus
from services.vouchers.schemas.sessions import (
    ClassCreate,
    ClassRead,
    ClassUpdate,
    SessionCancellation,
    SessionCreate,
    SessionDetail,
    SessionRead,
    SessionUpdate,
)
from services.vouchers.service import classes
from services.vouchers.service import sessions as service
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, QueryFlag, QueryId
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep

organization = router(
    prefix="/api/organizations/{organization_id}",
    tags=["sessions"],
    responses=responses(Unauthenticated, OrganizationNotFound, Invalid),
)
sessions = router(
    prefix="/api/sessions",
    tags=["sessions"],
    responses=responses(Unauthenticated, SessionNotFound, Invalid),
)


def _tagged_class(response: Response, therapy_class: ClassRead) -> ClassRead:
    set_etag(response, therapy_class.version)
    return therapy_class


def _tagged(response: Response, detail: SessionDetail) -> SessionDetail:
    set_etag(response, detail.version)
    return detail


@organization.get("/classes")
async def list_classes(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    is_active: QueryFlag | None = None,
) -> list[ClassRead]:
    """List the organization's classes, newest first."""
    return await classes.list_classes(session, actor, page, organization_id, is_active=is_active)


@organization.post(
    "/classes",
    status_code=201,
    responses=responses(Forbidden, ClientNotFound, ResourceNotFound),
)
async def create_class(
    organization_id: Id,
    body: ClassCreate,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> ClassRead:
    """Create a class."""
    therapy_class = await classes.create_class(session, actor, organization_id, body)
    return _tagged_class(response, therapy_class)


@organization.get("/classes/{class_id}", responses=responses(ClassNotFound))
async def get_class(
    organization_id: Id,
    class_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> ClassRead:
    """Show a class."""
    therapy_class = await classes.get_class(session, actor, organization_id, class_id)
    return _tagged_class(response, therapy_class)


@organization.put(
    "/classes/{class_id}",
    responses=responses(Forbidden, ClassNotFound, ClientNotFound, ResourceNotFound, StaleVersion),
)
async def update_class(
    organization_id: Id,
    class_id: Id,
    body: ClassUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> ClassRead:
    """Change the fields of a class that are sent; its sessions stay as they are."""
    therapy_class = await classes.update_class(
        session, actor, organization_id, class_id, body.changes(), precondition
    )
    return _tagged_class(response, therapy_class)


@organization.get("/sessions")
async def list_sessions(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    stretch: StretchDep,
    therapist_id: QueryId | None = None,
    therapy_class_id: QueryId | None = None,
    status: SessionStatus | None = None,
    needs_reassignment: QueryFlag = False,
) -> list[SessionRead]:
    """List the sessions that begin in a stretch of time, at most 1,000, in the order of their
    starts. Clients see those of classes.

    `needs_reassignment` lists the scheduled ones whose therapist, room or equipment is out of use.
    """
    return await service.list_sessions(
        session,
        actor,
        organization_id,
        stretch,
        therapist_id=therapist_id,
        therapy_class_id=therapy_class_id,
        status=status,
        needs_reassignment=needs_reassignment,
    )


@organization.post(
    "/sessions",
    status_code=201,
    responses=responses(
        Forbidden,
        ClassNotFound,
        ClientNotFound,
        ResourceNotFound,
        SessionPast,
        SlotTaken,
        RoomTaken,
    ),
)
async def create_session(
    organization_id: Id,
    body: SessionCreate,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> SessionDetail:
    """Create a single session."""
    detail = await service.create_session(session, actor, organization_id, body)
    return _tagged(response, detail)


@sessions.get("/{class_session_id}")
async def get_session(
    class_session_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> SessionDetail:
    """Show a session: participants to the staff, free seats to clients."""
    return _tagged(response, await service.get_session(session, actor, class_session_id))


@sessions.put(
    "/{class_session_id}",
    responses=responses(
        Forbidden,
        StaleVersion,
        SessionCancelled,
        SessionPast,
        SlotTaken,
        RoomTaken,
        ClientBusy,
        CapacityTaken,
        ClientNotFound,
        ResourceNotFound,
        ServiceUnavailable,
    ),
)
async def update_session(
    class_session_id: Id,
    body: SessionUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> SessionDetail:
    """Change a session; a new time or therapist is that of everybody who has a place in it."""
    detail = await service.update_session(
        session, actor, class_session_id, body.changes(), precondition
    )
    return _tagged(response, detail)


@sessions.post(
    "/{class_session_id}/cancel",
    responses=responses(Forbidden, SessionCancelled, SessionPast, ServiceUnavailable),
)
async def cancel_session(
    class_session_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
    body: SessionCancellation | None = None,
) -> SessionDetail:
    """Cancel a session; its reservations are cancelled without charge."""
    reason = body.reason if body else None
    return _tagged(response, await service.cancel_session(session, actor, class_session_id, reason))
