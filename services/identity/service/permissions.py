"""Granting and revoking permissions."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import policies, queries
from services.identity.errors import (
    OrganizationNotFound,
    PermissionAlreadyGranted,
    PermissionNotGranted,
    RoleHoldsNoPermissions,
    UserNotFound,
)
from services.identity.models import GRANTABLE_ROLES, Permission, User
from shared.actors import Actor
from shared.changes import record
from shared.errors import Forbidden


def require_owner(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers and Forbidden for members who do not own it."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    if not policies.is_owner_of(actor, organization_id):
        raise Forbidden("for the organization's owners")


async def list_of(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int
) -> Sequence[Permission]:
    """Return what a member was granted; raises OrganizationNotFound, Forbidden, UserNotFound."""
    require_owner(actor, organization_id)
    if await queries.find_user(session, user_id, organization_id) is None:
        raise UserNotFound
    return await queries.permissions_of(session, user_id)


async def _lock(session: AsyncSession, actor: Actor, organization_id: int, user_id: int) -> User:
    require_owner(actor, organization_id)
    user = await queries.lock_user(session, user_id, organization_id)
    if user is None:
        raise UserNotFound
    return user


async def grant(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int, permission: str
) -> Permission:
    """Grant a permission to a member; tokens issued before no longer count.

    Raises OrganizationNotFound, Forbidden, UserNotFound, RoleHoldsNoPermissions,
    PermissionAlreadyGranted.
    """
    user = await _lock(session, actor, organization_id, user_id)
    if not policies.can_grant(actor, permission, organization_id):
        raise Forbidden("nobody grants what they do not hold")
    if user.role not in GRANTABLE_ROLES:
        raise RoleHoldsNoPermissions
    if await queries.find_permission(session, user_id, permission) is not None:
        raise PermissionAlreadyGranted
    granted = Permission(
        user_id=user_id,
        organization_id=organization_id,
        permission=permission,
        granted_by=actor.user_id,
    )
    session.add(granted)
    record(session, "GRANT", granted, **user.invalidate_tokens())
    await session.flush()
    return granted


async def revoke(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int, permission: str
) -> None:
    """Take a permission away; tokens issued before no longer count.

    Raises OrganizationNotFound, Forbidden, UserNotFound, PermissionNotGranted.
    """
    user = await _lock(session, actor, organization_id, user_id)
    granted = await queries.find_permission(session, user_id, permission)
    if granted is None:
        raise PermissionNotGranted
    await session.delete(granted)
    await session.flush()
    record(session, "REVOKE", granted, **user.invalidate_tokens())
