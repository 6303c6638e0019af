"""Dependants: clients without an account, for whom another client acts."""

from typing import Annotated

from fastapi import Depends, Response

from services.identity.errors import (
    CannotBeGuardian,
    DependantNotFound,
    OrganizationNotFound,
    TooManyDependants,
    UserNotFound,
)
from services.identity.models import Dependant
from services.identity.schemas.common import Message
from services.identity.schemas.dependants import DependantCreate, DependantRead, DependantUpdate
from services.identity.service import dependants as service
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, StaleVersion, Unauthenticated, responses
from shared.fields import Id
from shared.json_responses import json_response
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep

own = router(
    prefix="/api/auth/dependants",
    tags=["dependants"],
    responses=responses(Unauthenticated, Invalid),
)
of_members = router(
    prefix="/api/organizations/{organization_id}/users/{user_id}/dependants",
    tags=["dependants"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, UserNotFound, Invalid),
)

_ADD = responses(CannotBeGuardian, TooManyDependants)
_CHANGE = responses(DependantNotFound, StaleVersion)


async def _member(organization_id: Id, user_id: Id) -> service.MemberKey:
    return service.MemberKey(organization_id, user_id)


MemberDep = Annotated[service.MemberKey, Depends(_member)]


def _tagged(response: Response, dependant: Dependant) -> DependantRead:
    set_etag(response, dependant.version)
    return DependantRead.model_validate(dependant)


def _deleted() -> Message:
    return Message(message="Dependant deleted successfully")


@own.get("", response_model=list[DependantRead])
async def list_own_dependants(reader: ReaderDep, actor: ActorDep, response: Response) -> Response:
    """List your dependants, newest first."""
    return json_response(response, await service.list_dependants(reader, actor, None))


@own.post("", status_code=201, responses=_ADD)
async def add_own_dependant(
    body: DependantCreate, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> DependantRead:
    """Add a dependant: a client without an account, for whom you buy, book and cancel."""
    return _tagged(response, await service.add(session, actor, None, body))


@own.put("/{dependant_id}", responses=_CHANGE)
async def update_own_dependant(
    dependant_id: Id,
    body: DependantUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> DependantRead:
    """Change the name or the date of birth of one of your dependants."""
    changes = body.changes()
    dependant = await service.update(session, actor, None, dependant_id, changes, precondition)
    return _tagged(response, dependant)


@own.delete("/{dependant_id}", responses=responses(DependantNotFound))
async def delete_own_dependant(dependant_id: Id, session: SessionDep, actor: ActorDep) -> Message:
    """Delete the personal data of one of your dependants. Vouchers and reservations stay."""
    await service.delete(session, actor, None, dependant_id)
    return _deleted()


@of_members.get("", response_model=list[DependantRead])
async def list_dependants(
    member: MemberDep, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """List the dependants of a client of the organization, newest first."""
    return json_response(response, await service.list_dependants(reader, actor, member))


@of_members.post("", status_code=201, responses=_ADD)
async def add_dependant(
    body: DependantCreate,
    session: SessionDep,
    actor: ActorDep,
    member: MemberDep,
    response: TaggedResponse,
) -> DependantRead:
    """Add a dependant of a client of the organization."""
    return _tagged(response, await service.add(session, actor, member, body))


@of_members.put("/{dependant_id}", responses=_CHANGE)
async def update_dependant(
    dependant_id: Id,
    body: DependantUpdate,
    session: SessionDep,
    actor: ActorDep,
    member: MemberDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> DependantRead:
    """Change the name or the date of birth of a client's dependant."""
    changes = body.changes()
    dependant = await service.update(session, actor, member, dependant_id, changes, precondition)
    return _tagged(response, dependant)


@of_members.delete("/{dependant_id}", responses=responses(DependantNotFound))
async def delete_dependant(
    dependant_id: Id, session: SessionDep, actor: ActorDep, member: MemberDep
) -> Message:
    """Delete the personal data of a client's dependant. Vouchers and reservations stay."""
    await service.delete(session, actor, member, dependant_id)
    return _deleted()
