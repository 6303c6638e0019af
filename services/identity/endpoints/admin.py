"""Users, as administrators of the system manage them."""

from typing import Annotated

from fastapi import Query

from services.identity import queries
from services.identity.endpoints.dependencies import AdminDep, ResourcesDep, user_response
from services.identity.errors import (
    AlreadyApproved,
    EmailTaken,
    LastAdministrator,
    LastOwner,
    NotYetApproved,
    OrganizationNotFound,
    OwnAccount,
    OwnerNeedsOrganization,
    UserNotFound,
)
from services.identity.queries import UserFilter
from services.identity.schemas import (
    Message,
    NewPasswordBody,
    Role,
    UserCreate,
    UserRead,
    UserUpdate,
)
from services.identity.security.passwords import PasswordQueueFull
from services.identity.service import registration, users
from shared.errors import (
    Forbidden,
    Invalid,
    ServiceUnavailable,
    StaleVersion,
    Unauthenticated,
    responses,
)
from shared.fields import Id, Name, QueryFlag, QueryId
from shared.paging import PageDep, listed
from shared.preconditions import PreconditionDep, TaggedResponse
from shared.routing import router
from shared.sessions import SessionDep, UnclaimedWorkDep, WorkDep

admin = router(
    prefix="/api/admin/users",
    tags=["users"],
    responses=responses(Unauthenticated, Forbidden, Invalid),
)
_LAST = (OwnAccount, LastOwner, LastAdministrator)


@admin.get("")
async def list_users(
    session: SessionDep,
    _admin: AdminDep,
    page: PageDep,
    organization_id: Annotated[QueryId | None, Query()] = None,
    role: Role | None = None,
    is_active: QueryFlag | None = None,
    pending: Annotated[QueryFlag | None, Query(description="Whether they await approval")] = None,
    q: Annotated[Name | None, Query(description="A part of the name or address")] = None,
) -> list[UserRead]:
    """List users, newest first."""
    wanted = UserFilter(organization_id, role, is_active, pending, q)
    rows = await queries.page_of_users(session, page, wanted)
    return listed(UserRead, rows)


@admin.post(
    "",
    status_code=201,
    responses=responses(OrganizationNotFound, EmailTaken, ServiceUnavailable, PasswordQueueFull),
)
async def create_user(
    body: UserCreate, actor: AdminDep, work: WorkDep, resources: ResourcesDep
) -> UserRead:
    """Add a user, active at once.

    With `organization_name` the organization is made a moment later, and the user belongs to it
    then; until that `requested_organization` names it.
    """
    return UserRead.model_validate(await registration.add_user(work, resources, actor, body))


@admin.get("/{user_id}", responses=responses(UserNotFound))
async def get_user(
    user_id: Id, session: SessionDep, _admin: AdminDep, response: TaggedResponse
) -> UserRead:
    """Show any user."""
    return user_response(response, await users.get(session, user_id))


@admin.put(
    "/{user_id}",
    responses=responses(
        UserNotFound,
        OrganizationNotFound,
        EmailTaken,
        NotYetApproved,
        OwnerNeedsOrganization,
        *_LAST,
        StaleVersion,
        ServiceUnavailable,
    ),
)
async def update_user(
    user_id: Id,
    body: UserUpdate,
    actor: AdminDep,
    work: UnclaimedWorkDep,
    resources: ResourcesDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> UserRead:
    """Change any user; role and organization too."""
    if body.organization_id is not None:
        await registration.require_organization(work, resources, body.organization_id)
    async with work.begin() as session:
        user = await users.lock(session, actor, user_id)
        await users.update(session, actor, user, body.changes(), precondition)
    return user_response(response, user)


@admin.delete("/{user_id}", responses=responses(UserNotFound, *_LAST))
async def delete_user(user_id: Id, session: SessionDep, actor: AdminDep) -> Message:
    """Delete a user; a pseudonym takes the person's place."""
    user = await users.lock(session, actor, user_id)
    await users.delete(session, actor, user)
    return Message(message="User deleted successfully")


@admin.put("/{user_id}/password", responses=responses(UserNotFound, PasswordQueueFull))
async def set_password(
    user_id: Id,
    body: NewPasswordBody,
    actor: AdminDep,
    work: UnclaimedWorkDep,
    resources: ResourcesDep,
) -> Message:
    """Give a user a new password; all sessions of the user end."""
    async with work.begin() as session:
        about = await users.about_password(session, await users.get(session, user_id))
    hashed = await resources.passwords.hash_new(body.password, about)
    async with work.begin() as session:
        await users.set_password(session, await users.lock(session, actor, user_id), hashed)
    return Message(message="Password updated successfully")


@admin.post("/{user_id}/approve", responses=responses(UserNotFound, AlreadyApproved))
async def approve_user(
    user_id: Id, session: SessionDep, actor: AdminDep, response: TaggedResponse
) -> UserRead:
    """Let a registered user in."""
    user = await users.lock(session, actor, user_id)
    return user_response(response, await users.approve(session, actor, user))
