"""Use cases of those who manage users: change, approve, remove, delete."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import policies, queries
from services.identity.errors import (
    AlreadyApproved,
    LastAdministrator,
    LastOwner,
    NotYetApproved,
    OwnAccount,
    OwnerNeedsOrganization,
    UserNotFound,
)
from services.identity.models import GRANTABLE_ROLES, User
from services.identity.service.registration import address_must_be_free
from shared.actors import ADMIN, OWNER, Actor
from shared.changes import note, record
from shared.errors import Forbidden
from shared.preconditions import Precondition
from shared.tenancy import EVERYTHING, limit_to

_TELLS_OF_RIGHTS = ("role", "organization_id", "is_active")


async def get(session: AsyncSession, user_id: int, organization_id: int | None = None) -> User:
    """Return a user, of an organization if one is named; raises UserNotFound."""
    user = await queries.find_user(session, user_id, organization_id)
    if user is None:
        raise UserNotFound
    return user


async def lock(
    session: AsyncSession, actor: Actor, user_id: int, organization_id: int | None = None
) -> User:
    """Return a user locked for a change that the actor may make.

    Raises UserNotFound, and Forbidden for a user who holds more than the actor.
    """
    user = await queries.lock_user(session, user_id, organization_id)
    if user is None:
        raise UserNotFound
    # After the lock, which every grant takes too: nothing is granted between this and the change.
    granted = [row.permission for row in await queries.permissions_of(session, user.id)]
    if not policies.can_change(actor, user, granted):
        raise Forbidden("you cannot change a user who holds rights that you do not hold")
    return user


async def update(
    session: AsyncSession,
    actor: Actor,
    user: User,
    changes: dict[str, Any],
    precondition: Precondition,
) -> User:
    """Change a locked user.

    Raises StaleVersion, Forbidden, EmailTaken, NotYetApproved, OwnAccount, LastOwner,
    LastAdministrator, OwnerNeedsOrganization.
    """
    precondition.check(user.version)
    before = {name: getattr(user, name) for name in _TELLS_OF_RIGHTS}
    affected = {name for name, old in before.items() if name in changes and changes[name] != old}
    if affected:
        await _require_possible(session, actor, user, changes, affected)
    await _apply(session, user, changes, affected)
    if session.is_modified(user):
        await _record_update(session, user, before, affected)
    return user


async def _require_possible(
    session: AsyncSession,
    actor: Actor,
    user: User,
    changes: dict[str, Any],
    affected: set[str],
) -> None:
    if user.id == actor.user_id:
        raise OwnAccount
    organization_id = changes.get("organization_id", user.organization_id)
    if "role" in affected and not policies.can_give_role(actor, changes["role"], organization_id):
        raise Forbidden(f"the role {changes['role']} brings rights that you do not hold")
    if "is_active" in affected and changes["is_active"] and user.awaits_approval:
        raise NotYetApproved
    if user.role != ADMIN or affected & {"role", "is_active"}:
        await require_not_last(session, user)


async def require_not_last(session: AsyncSession, user: User) -> None:
    """Raise LastOwner or LastAdministrator when nobody could take the user's place."""
    if user.is_active_owner and await queries.is_last_owner(session, user):
        raise LastOwner
    if user.role == ADMIN and user.is_active and await queries.is_last_administrator(session, user):
        raise LastAdministrator


async def _apply(
    session: AsyncSession, user: User, changes: dict[str, Any], affected: set[str]
) -> None:
    moves = "organization_id" in affected
    keeps_permissions = changes.get("role", user.role) in GRANTABLE_ROLES and not moves
    if affected and not keeps_permissions:
        await revoke_all(session, user)
    if moves:
        # The row leaves what a manager may see, and with it what the manager may write.
        await limit_to(session, EVERYTHING)
        user.move_to(changes["organization_id"])
    if "role" in changes:
        user.set_role(changes["role"])
    if "email" in changes:
        user.set_email(changes["email"])
    for name in ("name", "phone", "is_active"):
        if name in changes:
            setattr(user, name, changes[name])
    if user.role == OWNER and user.organization_id is None and not user.requested_organization:
        raise OwnerNeedsOrganization


async def _record_update(
    session: AsyncSession, user: User, before: dict[str, Any], affected: set[str]
) -> None:
    details: dict[str, Any] = user.invalidate_tokens() if affected else {}
    record(session, "UPDATE", user, **details)
    left = before["organization_id"]
    if left is not None and user.organization_id not in (None, left):
        # The change is in the log of the organization that was joined; tell the one that was left.
        moved = {"organization_id": user.organization_id}
        note(session, "UPDATE", "user", entity_id=user.id, organization_id=left, details=moved)
    async with address_must_be_free():
        await session.flush()
    if not user.is_active:
        await queries.end_sessions(session, user.id, "deactivated")


async def revoke_all(session: AsyncSession, user: User) -> None:
    """Take every permission from a user who no longer is what they were granted to."""
    for permission in await queries.permissions_of(session, user.id):
        await session.delete(permission)
        # Before the user's own row: no permission may outlive the membership it was granted in.
        await session.flush()
        record(session, "REVOKE", permission)


async def approve(session: AsyncSession, actor: Actor, user: User) -> User:
    """Let a registered user in; raises AlreadyApproved."""
    if not user.awaits_approval:
        raise AlreadyApproved
    user.approve(actor.user_id)
    record(session, "APPROVE", user)
    await session.flush()
    return user


async def remove_from_organization(session: AsyncSession, actor: Actor, user: User) -> None:
    """Take a user out of the organization; raises OwnAccount, LastOwner.

    One who was never let in is refused by it, and goes for good: the account would wait for an
    approval that nobody can give, and keep its address from registering anywhere else.
    """
    if user.awaits_approval and user.last_login is None:
        await delete(session, actor, user)
        return
    await update(session, actor, user, {"organization_id": None}, Precondition(None))


async def delete(session: AsyncSession, actor: Actor, user: User) -> None:
    """Replace a user by a pseudonym; raises OwnAccount, LastOwner, LastAdministrator.

    The address is free again. The audit trail keeps what it recorded while the user existed: it
    cannot be rewritten, and who did what must stay answerable.
    """
    if user.id == actor.user_id:
        raise OwnAccount
    await require_not_last(session, user)
    await revoke_all(session, user)
    await queries.end_sessions(session, user.id, "deleted")
    user.pseudonymize()
    record(session, "DELETE", user, **user.invalidate_tokens())
    await session.flush()


async def about_password(session: AsyncSession, user: User) -> list[str]:
    """Return the texts about a user that a new password must not consist of."""
    copy = None
    if user.organization_id is not None:
        copy = await queries.find_organization_copy(session, user.organization_id)
    organization = copy.slug if copy else user.requested_organization
    return [text for text in (user.email, user.name, organization) if text]


async def set_password(session: AsyncSession, user: User, password_hash: str) -> None:
    """Give a user a new password and end every session."""
    user.set_password(password_hash)
    await queries.end_sessions(session, user.id, "password_changed")
    record(session, "CHANGE_PASSWORD", user, **user.invalidate_tokens())
    await session.flush()
