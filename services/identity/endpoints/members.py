"""Users of an organization and their permissions, for its owners and managers."""

from typing import Annotated

from fastapi import Query, Response

from services.identity.endpoints.dependencies import ResourcesDep, user_response
from services.identity.errors import (
    AlreadyApproved,
    EmailTaken,
    InvitationPending,
    LastOwner,
    NotInvited,
    NotYetApproved,
    OrganizationNotFound,
    OwnAccount,
    PasswordQueueFull,
    PermissionAlreadyGranted,
    PermissionNotGranted,
    RoleHoldsNoPermissions,
    SecondFactorNotSet,
    TooManyAttempts,
    UserNotFound,
)
from services.identity.queries import UserFilter
from services.identity.schemas.common import Message
from services.identity.schemas.users import (
    MemberCreate,
    MemberUpdate,
    PermissionGrant,
    PermissionName,
    PermissionRead,
    Role,
    UserRead,
)
from services.identity.service import members as service
from services.identity.service import permissions, second_factors
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
from shared.fields import Id, Name, QueryFlag
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep, UnclaimedWorkDep, WorkDep

members = router(
    prefix="/api/organizations/{organization_id}/users",
    tags=["users"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


@members.get("", response_model=list[UserRead])
async def list_members(
    organization_id: Id,
    work: UnclaimedWorkDep,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    role: Role | None = None,
    is_active: QueryFlag | None = None,
    pending: Annotated[QueryFlag | None, Query(description="Whether they await approval")] = None,
    invited: Annotated[
        QueryFlag | None, Query(description="Whether they have not accepted an invitation yet")
    ] = None,
    q: Annotated[Name | None, Query(description="A part of the name or address")] = None,
) -> Response:
    """List the organization's users, newest first; `pending=true` are those to approve."""
    conditions = UserFilter(organization_id, role, is_active, pending, invited, q)
    body = await service.list_members(work, reader, actor, organization_id, page, conditions)
    return json_response(response, body)


@members.post(
    "", status_code=201, responses=responses(EmailTaken, ServiceUnavailable, PasswordQueueFull)
)
async def create_member(
    organization_id: Id,
    body: MemberCreate,
    actor: ActorDep,
    work: WorkDep,
    resources: ResourcesDep,
) -> UserRead:
    """Add a user to the organization: active at once with a password, and invited without one.

    The message of an invitation has a link to choose the password, valid for 7 days.

    You cannot give a role that brings rights that you do not hold.
    """
    user = await service.add_member(work, actor, resources, organization_id, body)
    return UserRead.model_validate(user)


@members.get("/{user_id}", response_model=UserRead, responses=responses(UserNotFound))
async def get_member(
    organization_id: Id, user_id: Id, reader: ReaderDep, actor: ActorDep, response: TaggedResponse
) -> Response:
    """Show a user of the organization."""
    document = await service.get_member(reader, actor, organization_id, user_id)
    return json_response(response, document.body, version=document.facts.version)


@members.put(
    "/{user_id}",
    responses=responses(
        UserNotFound,
        EmailTaken,
        NotYetApproved,
        InvitationPending,
        OwnAccount,
        LastOwner,
        StaleVersion,
    ),
)
async def update_member(
    organization_id: Id,
    user_id: Id,
    body: MemberUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> UserRead:
    """Change a user of the organization who holds no more than you do."""
    user = await service.update_member(
        session, actor, organization_id, user_id, body.changes(), precondition
    )
    return user_response(response, user)


@members.delete("/{user_id}", responses=responses(UserNotFound, OwnAccount, LastOwner))
async def remove_member(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep
) -> Message:
    """Remove a user from the organization who holds no more than you do.

    The account stays, unless it was never approved.
    """
    await service.remove_member(session, actor, organization_id, user_id)
    return Message(message="User removed from organization successfully")


@members.post("/{user_id}/approve", responses=responses(UserNotFound, AlreadyApproved))
async def approve_member(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> UserRead:
    """Approve a user who registered with the organization and holds no more than you do."""
    user = await service.approve_member(session, actor, organization_id, user_id)
    return user_response(response, user)


@members.post(
    "/{user_id}/invitation", responses=responses(UserNotFound, NotInvited, TooManyAttempts)
)
async def send_member_invitation(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> UserRead:
    """Send an invitation again; the links of earlier messages become invalid."""
    user = await service.send_invitation(session, actor, organization_id, user_id)
    return user_response(response, user)


@members.delete("/{user_id}/invitation", responses=responses(UserNotFound, NotInvited))
async def withdraw_member_invitation(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep
) -> Message:
    """Withdraw an invitation that was not accepted; the user is deleted."""
    await service.withdraw_invitation(session, actor, organization_id, user_id)
    return Message(message="Invitation withdrawn successfully")


@members.delete(
    "/{user_id}/second-factor",
    responses=responses(UserNotFound, OwnAccount, SecondFactorNotSet, ReauthenticationRequired),
)
async def reset_member_second_factor(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep
) -> Message:
    """Remove the second factor of a user who lost it, and who is no owner; the user is notified.

    Needs a sign-in of the last 15 minutes.
    """
    await second_factors.reset_of_member(session, actor, organization_id, user_id)
    return Message(message="Second factor removed successfully")


@members.get(
    "/{user_id}/permissions",
    response_model=list[PermissionRead],
    responses=responses(UserNotFound),
)
async def list_permissions(
    organization_id: Id, user_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """List the permissions that a user was granted; owners hold all of them by role."""
    body = await permissions.list_permissions(reader, actor, organization_id, user_id)
    return json_response(response, body)


@members.post(
    "/{user_id}/permissions",
    status_code=201,
    responses=responses(UserNotFound, PermissionAlreadyGranted, RoleHoldsNoPermissions),
)
async def grant_permission(
    organization_id: Id,
    user_id: Id,
    body: PermissionGrant,
    session: SessionDep,
    actor: ActorDep,
) -> PermissionRead:
    """Grant a permission to a therapist or a member of the staff."""
    row = await permissions.grant(session, actor, organization_id, user_id, body.permission)
    return PermissionRead.model_validate(row)


@members.delete(
    "/{user_id}/permissions/{permission}", responses=responses(UserNotFound, PermissionNotGranted)
)
async def revoke_permission(
    organization_id: Id,
    user_id: Id,
    permission: PermissionName,
    session: SessionDep,
    actor: ActorDep,
) -> Message:
    """Revoke a permission."""
    await permissions.revoke(session, actor, organization_id, user_id, permission)
    return Message(message="Permission revoked successfully")
