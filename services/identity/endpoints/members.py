"""Users of an organization, as its owners and managers see them; and their permissions."""

from typing import Annotated

from fastapi import Query

from services.identity import queries
from services.identity.endpoints.dependencies import ResourcesDep, user_response
from services.identity.errors import (
    AlreadyApproved,
    EmailTaken,
    LastOwner,
    NotYetApproved,
    OrganizationNotFound,
    OwnAccount,
    PermissionAlreadyGranted,
    PermissionNotGranted,
    RoleHoldsNoPermissions,
    UserNotFound,
)
from services.identity.queries import UserFilter
from services.identity.schemas import (
    MemberCreate,
    MemberUpdate,
    Message,
    PermissionGrant,
    PermissionName,
    PermissionRead,
    Role,
    UserRead,
)
from services.identity.security.passwords import PasswordQueueFull
from services.identity.service import permissions, registration, users
from shared.auth import ActorDep
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, Name, QueryFlag
from shared.paging import PageDep, listed
from shared.preconditions import PreconditionDep, TaggedResponse
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

members = router(
    prefix="/api/organizations/{organization_id}/users",
    tags=["users"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


@members.get("")
async def list_members(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    role: Role | None = None,
    is_active: QueryFlag | None = None,
    pending: Annotated[QueryFlag | None, Query(description="Whether they await approval")] = None,
    q: Annotated[Name | None, Query(description="A part of the name or address")] = None,
) -> list[UserRead]:
    """List the organization's users, newest first; `pending=true` are those to approve."""
    await registration.require_managed(session, actor, organization_id)
    wanted = UserFilter(organization_id, role, is_active, pending, q)
    rows = await queries.page_of_users(session, page, wanted)
    return listed(UserRead, rows)


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
    """Add a user to the organization, active at once; nobody gives a role that brings more than
    they hold."""
    user = await registration.add_member(work, resources, actor, organization_id, body)
    return UserRead.model_validate(user)


@members.get("/{user_id}", responses=responses(UserNotFound))
async def get_member(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> UserRead:
    """Show a user of the organization."""
    registration.require_manager(actor, organization_id)
    return user_response(response, await users.get(session, user_id, organization_id))


@members.put(
    "/{user_id}",
    responses=responses(
        UserNotFound, EmailTaken, NotYetApproved, OwnAccount, LastOwner, StaleVersion
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
    registration.require_manager(actor, organization_id)
    user = await users.lock(session, actor, user_id, organization_id)
    await users.update(session, actor, user, body.changes(), precondition)
    return user_response(response, user)


@members.delete("/{user_id}", responses=responses(UserNotFound, OwnAccount, LastOwner))
async def remove_member(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep
) -> Message:
    """Take a user out of the organization who holds no more than you do.

    The account stays, unless it was never approved.
    """
    registration.require_manager(actor, organization_id)
    user = await users.lock(session, actor, user_id, organization_id)
    await users.remove_from_organization(session, actor, user)
    return Message(message="User removed from organization successfully")


@members.post("/{user_id}/approve", responses=responses(UserNotFound, AlreadyApproved))
async def approve_member(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> UserRead:
    """Let a user in who registered with the organization and holds no more than you do."""
    registration.require_manager(actor, organization_id)
    user = await users.lock(session, actor, user_id, organization_id)
    return user_response(response, await users.approve(session, actor, user))


@members.get("/{user_id}/permissions", responses=responses(UserNotFound))
async def list_permissions(
    organization_id: Id, user_id: Id, session: SessionDep, actor: ActorDep
) -> list[PermissionRead]:
    """List what a user was granted; owners hold everything by role."""
    granted = await permissions.list_of(session, actor, organization_id, user_id)
    return [PermissionRead.model_validate(permission) for permission in granted]


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
    granted = await permissions.grant(session, actor, organization_id, user_id, body.permission)
    return PermissionRead.model_validate(granted)


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
    """Take a permission away."""
    await permissions.revoke(session, actor, organization_id, user_id, permission)
    return Message(message="Permission revoked successfully")
