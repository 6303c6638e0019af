"""Changes of a user by a manager or an administrator: what they share."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import access, policies, queries
from services.identity.errors import (
    AlreadyApproved,
    InvitationPending,
    LastAdministrator,
    LastOwner,
    NotYetApproved,
    OwnAccount,
    OwnerNeedsOrganization,
)
from services.identity.models import GRANTABLE_ROLES, EndReason, User
from services.identity.service import addresses, invitations, notices
from services.identity.service.accounts import unique_address
from shared.actors import ADMIN, OWNER, Actor
from shared.changes import record, record_fact
from shared.errors import Forbidden
from shared.mail.queue import delete_mails_of
from shared.preconditions import Precondition
from shared.tenancy import see_all_tenants
from shared.text import fold

_RIGHTS_FIELDS = ("role", "organization_id", "is_active")
"""The fields that decide what a user may do: a change of one ends the user's access tokens."""


async def lock(
    session: AsyncSession, actor: Actor, user_id: int, organization_id: int | None = None
) -> User:
    """Return a user locked for a change that the actor may make.

    Raises UserNotFound, and Forbidden for a user who holds more than the actor.
    """
    user = await queries.lock_user(session, user_id, organization_id)
    # After the lock, which every grant takes too: nothing is granted between this and the change.
    permissions = [row.permission for row in await queries.permissions_of(session, user.id)]
    if not policies.can_change(actor, user, permissions):
        raise Forbidden("You cannot change a user who holds rights that you do not hold.")
    return user


async def update(
    session: AsyncSession,
    actor: Actor,
    user: User,
    changes: dict[str, Any],
    precondition: Precondition,
) -> None:
    """Change a locked user.

    Raises StaleVersion, Forbidden, EmailTaken, NotYetApproved, InvitationPending, OwnAccount,
    LastOwner, LastAdministrator, OwnerNeedsOrganization.
    """
    precondition.check(user.version)
    before = {name: getattr(user, name) for name in _RIGHTS_FIELDS}
    former_address = user.email
    changed_fields = {
        name for name, old in before.items() if name in changes and changes[name] != old
    }
    if changed_fields:
        await _require_possible(session, actor, user, changes, changed_fields)
    await _apply(session, user, changes, changed_fields)
    if session.is_modified(user):
        await _record_update(session, user, before["organization_id"], changed_fields)
        if fold(user.email) != fold(former_address):
            await _announce_address(session, user, former_address)


async def _announce_address(session: AsyncSession, user: User, former_address: str) -> None:
    """Notify a user whose address was changed; one who was invited gets the link there."""
    if user.is_invited:
        await invitations.send(session, user)
    else:
        await addresses.announce_change_by_staff(session, user, former_address)


async def _require_possible(
    session: AsyncSession,
    actor: Actor,
    user: User,
    changes: dict[str, Any],
    changed_fields: set[str],
) -> None:
    """Raise the error of a change of rights that is not allowed; see `update`."""
    if user.id == actor.user_id:
        raise OwnAccount
    if "role" in changed_fields:
        organization_id = changes.get("organization_id", user.organization_id)
        access.require_role(actor, changes["role"], organization_id)
    if "is_active" in changed_fields and changes["is_active"] and user.awaits_approval:
        raise NotYetApproved
    if "is_active" in changed_fields and changes["is_active"]:
        require_joined(user)
    if user.role != ADMIN or changed_fields & {"role", "is_active"}:
        await _require_not_last(session, user)


def require_joined(user: User) -> None:
    """Raise InvitationPending for a user who has not accepted an invitation."""
    if user.is_invited:
        raise InvitationPending


async def _require_not_last(session: AsyncSession, user: User) -> None:
    """Raise LastOwner or LastAdministrator when no other user could take this one's place."""
    if user.is_active_owner and await queries.is_last_owner(session, user):
        raise LastOwner
    if user.role == ADMIN and user.is_active and await queries.is_last_administrator(session, user):
        raise LastAdministrator


async def _apply(
    session: AsyncSession, user: User, changes: dict[str, Any], changed_fields: set[str]
) -> None:
    """Set the changed fields; raises OwnerNeedsOrganization."""
    moves = "organization_id" in changed_fields
    keeps_permissions = changes.get("role", user.role) in GRANTABLE_ROLES and not moves
    if changed_fields and not keeps_permissions:
        await _revoke_all(session, user)
    # Read before the changes: a query would write them before they are recorded.
    dependants = await queries.lock_dependants(session, user.id) if moves else ()
    if moves:
        # The row leaves what a manager may see, and with it what the manager may write.
        await see_all_tenants(session)
        user.move_to(changes["organization_id"])
        for dependant in dependants:
            dependant.move_to(changes["organization_id"])
            record(session, "UPDATE", dependant)
    if "role" in changes:
        user.set_role(changes["role"])
    if "email" in changes:
        user.set_email(changes["email"])
    for name in ("name", "phone", "locale", "is_active"):
        if name in changes:
            setattr(user, name, changes[name])
    if user.role == OWNER and user.organization_id is None and not user.requested_organization:
        raise OwnerNeedsOrganization


async def _record_update(
    session: AsyncSession, user: User, former_organization_id: int | None, changed_fields: set[str]
) -> None:
    """Record the change and write it; raises EmailTaken."""
    details: dict[str, Any] = user.invalidate_tokens() if changed_fields else {}
    record(session, "UPDATE", user, **details)
    if former_organization_id is not None and user.organization_id not in (
        None,
        former_organization_id,
    ):
        # The change is in the audit log of the new organization; the former one needs it too.
        record_fact(
            session,
            "UPDATE",
            "user",
            entity_id=user.id,
            organization_id=former_organization_id,
            details={"organization_id": user.organization_id},
        )
    async with unique_address():
        await session.flush()
    if not user.is_active:
        await queries.end_sessions(session, user.id, EndReason.DEACTIVATED)


async def _revoke_all(session: AsyncSession, user: User) -> None:
    """Revoke every permission of a user whose role or organization changes."""
    for permission in await queries.permissions_of(session, user.id):
        await session.delete(permission)
        # Before the user's own row: no permission may outlive the membership it was granted in.
        await session.flush()
        record(session, "REVOKE", permission)


async def approve(session: AsyncSession, actor: Actor, user: User) -> None:
    """Approve a locked user who registered; raises AlreadyApproved."""
    if not user.awaits_approval:
        raise AlreadyApproved
    user.approve(actor.user_id)
    record(session, "APPROVE", user)
    await session.flush()
    await notices.notify_approved(session, user)


async def delete(session: AsyncSession, actor: Actor, user: User) -> None:
    """Replace a locked user by a pseudonym; raises OwnAccount, LastOwner, LastAdministrator.

    The e-mail address is free again. The audit trail still names the user in what it recorded
    earlier: it cannot be rewritten, and it must be possible to find out who did what. The user's
    dependants are deleted too. A person whose registration was never approved is notified.
    """
    if user.id == actor.user_id:
        raise OwnAccount
    await _require_not_last(session, user)
    await _revoke_all(session, user)
    await queries.end_sessions(session, user.id, EndReason.DELETED)
    await session.flush()
    await see_all_tenants(session)  # a message may belong to a former organization of the user
    await delete_mails_of(session, user.id, user.email)
    await queries.delete_links_of(session, user.id)
    await queries.delete_factor(session, user.id)
    if user.awaits_approval and user.last_login is None:
        await notices.notify_refused(session, user)
    for dependant in await queries.lock_dependants(session, user.id):
        dependant.pseudonymize()
        record(session, "DELETE", dependant)
    user.pseudonymize()
    record(session, "DELETE", user, **user.invalidate_tokens())
    await session.flush()
