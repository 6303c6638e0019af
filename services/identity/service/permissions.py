"""Granting and revoking permissions."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import access, policies, queries
from services.identity.errors import (
    PermissionAlreadyGranted,
    PermissionNotGranted,
    RoleHoldsNoPermissions,
)
from services.identity.models import GRANTABLE_ROLES, Permission
from shared.actors import Actor
from shared.changes import record
from shared.errors import Forbidden
from shared.reads import Reader


async def list_permissions(
    reader: Reader, actor: Actor, organization_id: int, user_id: int
) -> bytes:
    """Return the permissions of a member as JSON.

    Raises OrganizationNotFound, Forbidden, UserNotFound.
    """
    access.require_owner(actor, organization_id)
    await queries.get_document(reader, user_id, organization_id)
    return await queries.list_permissions(reader, user_id)


async def grant(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int, name: str
) -> Permission:
    """Grant a permission to a member; access tokens issued earlier become void.

    Raises OrganizationNotFound, Forbidden, UserNotFound, RoleHoldsNoPermissions,
    PermissionAlreadyGranted.
    """
    access.require_owner(actor, organization_id)
    user = await queries.lock_user(session, user_id, organization_id)
    if not policies.can_grant(actor, name, organization_id):
        raise Forbidden("You cannot grant a permission that you do not hold.")
    if user.role not in GRANTABLE_ROLES:
        raise RoleHoldsNoPermissions
    if await queries.find_permission(session, user_id, name) is not None:
        raise PermissionAlreadyGranted
    permission = Permission(
        user_id=user_id,
        organization_id=organization_id,
        permission=name,
        granted_by=actor.user_id,
    )
    session.add(permission)
    record(session, "GRANT", permission, **user.invalidate_tokens())
    await session.flush()
    return permission


async def revoke(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int, name: str
) -> None:
    """Revoke a member's permission; access tokens issued earlier become void.

    Raises OrganizationNotFound, Forbidden, UserNotFound, PermissionNotGranted.
    """
    access.require_owner(actor, organization_id)
    user = await queries.lock_user(session, user_id, organization_id)
    permission = await queries.find_permission(session, user_id, name)
    if permission is None:
        raise PermissionNotGranted
    await session.delete(permission)
    await session.flush()
    record(session, "REVOKE", permission, **user.invalidate_tokens())
