"""Users of the whole system, for its administrators."""

from typing import Annotated

from fastapi import Query, Response

from services.identity.endpoints.dependencies import ResourcesDep, user_response
from services.identity.errors import (
    AlreadyApproved,
    EmailTaken,
    InvitationPending,
    LastAdministrator,
    LastOwner,
    NotInvited,
    NotYetApproved,
    OrganizationNotFound,
    OwnAccount,
    OwnerNeedsOrganization,
    PasswordQueueFull,
    SecondFactorNotSet,
    TooManyAttempts,
    UserNotFound,
)
from services.identity.queries import UserFilter
from services.identity.schemas.common import Message
from services.identity.schemas.users import NewPasswordBody, Role, UserCreate, UserRead, UserUpdate
from services.identity.service import second_factors, users
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ReauthenticationRequired,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, Name, QueryFlag, QueryId
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep, UnclaimedWorkDep, WorkDep

admin = router(
    prefix="/api/admin/users",
    tags=["users"],
    responses=responses(Unauthenticated, Forbidden, Invalid),
)
_LAST = (OwnAccount, LastOwner, LastAdministrator)


@admin.get("", response_model=list[UserRead])
async def list_users(
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    organization_id: Annotated[QueryId | None, Query()] = None,
    role: Role | None = None,
    is_active: QueryFlag | None = None,
    pending: Annotated[QueryFlag | None, Query(description="Whether they await approval")] = None,
    invited: Annotated[
        QueryFlag | None, Query(description="Whether they have not accepted an invitation yet")
    ] = None,
    q: Annotated[Name | None, Query(description="A part of the name or address")] = None,
) -> Response:
    """List users, newest first."""
    conditions = UserFilter(organization_id, role, is_active, pending, invited, q)
    return json_response(response, await users.list_users(reader, actor, page, conditions))


@admin.post(
    "",
    status_code=201,
    responses=responses(OrganizationNotFound, EmailTaken, ServiceUnavailable, PasswordQueueFull),
)
async def create_user(
    body: UserCreate, actor: ActorDep, work: WorkDep, resources: ResourcesDep
) -> UserRead:
    """Add a user: active at once with a password, and invited by a message without one.

    With `organization_name` the organization is created a moment later, and the user then belongs
    to it. Until then `requested_organization` is its name.
    """
    return UserRead.model_validate(await users.add_user(work, actor, resources, body))


@admin.get("/{user_id}", response_model=UserRead, responses=responses(UserNotFound))
async def get_user(
    user_id: Id, reader: ReaderDep, actor: ActorDep, response: TaggedResponse
) -> Response:
    """Show any user."""
    document = await users.get_user(reader, actor, user_id)
    return json_response(response, document.body, version=document.facts.version)


@admin.put(
    "/{user_id}",
    responses=responses(
        UserNotFound,
        OrganizationNotFound,
        EmailTaken,
        NotYetApproved,
        InvitationPending,
        OwnerNeedsOrganization,
        *_LAST,
        StaleVersion,
        ServiceUnavailable,
    ),
)
async def update_user(
    user_id: Id,
    body: UserUpdate,
    actor: ActorDep,
    work: UnclaimedWorkDep,
    resources: ResourcesDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> UserRead:
    """Change any user, including the role and the organization."""
    user = await users.update_user(work, actor, resources, user_id, body, precondition)
    return user_response(response, user)


@admin.delete("/{user_id}", responses=responses(UserNotFound, *_LAST))
async def delete_user(user_id: Id, session: SessionDep, actor: ActorDep) -> Message:
    """Delete a user; a pseudonym takes the person's place."""
    await users.delete_user(session, actor, user_id)
    return Message(message="User deleted successfully")


@admin.post("/{user_id}/invitation", responses=responses(UserNotFound, NotInvited, TooManyAttempts))
async def send_invitation(
    user_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> UserRead:
    """Send an invitation again; the links of earlier messages become invalid."""
    return user_response(response, await users.send_invitation(session, actor, user_id))


@admin.delete("/{user_id}/invitation", responses=responses(UserNotFound, NotInvited))
async def withdraw_invitation(user_id: Id, session: SessionDep, actor: ActorDep) -> Message:
    """Withdraw an invitation that was not accepted; the user is deleted."""
    await users.withdraw_invitation(session, actor, user_id)
    return Message(message="Invitation withdrawn successfully")


@admin.put(
    "/{user_id}/password", responses=responses(UserNotFound, InvitationPending, PasswordQueueFull)
)
async def set_password(
    user_id: Id,
    body: NewPasswordBody,
    actor: ActorDep,
    work: UnclaimedWorkDep,
    resources: ResourcesDep,
) -> Message:
    """Set a user's password; all sessions of the user end."""
    await users.set_password(work, actor, resources, user_id, body.password)
    return Message(message="Password updated successfully")


@admin.post("/{user_id}/approve", responses=responses(UserNotFound, AlreadyApproved))
async def approve_user(
    user_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> UserRead:
    """Approve a user who registered."""
    return user_response(response, await users.approve_user(session, actor, user_id))


@admin.delete(
    "/{user_id}/second-factor",
    responses=responses(UserNotFound, OwnAccount, SecondFactorNotSet, ReauthenticationRequired),
)
async def reset_second_factor(user_id: Id, session: SessionDep, actor: ActorDep) -> Message:
    """Remove the second factor of a user who lost it; the user is notified.

    Needs a sign-in of the last 15 minutes.
    """
    await second_factors.reset(session, actor, user_id)
    return Message(message="Second factor removed successfully")
