"""Who may do what: pure functions of the actor and the user it is about."""

from services.identity.models import User
from shared.auth import ADMIN, ALL, OWNER, Actor

MANAGE_USERS = "manage_users"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members see their organization, administrators every one."""
    return actor.is_admin or actor.organization_id == organization_id


def is_owner_of(actor: Actor, organization_id: int) -> bool:
    """Say whether the actor owns the organization, which an administrator does everywhere."""
    if actor.is_admin:
        return True
    return actor.role == OWNER and actor.organization_id == organization_id


def can_give_role(actor: Actor, role: str, organization_id: int | None) -> bool:
    """Nobody makes anybody more than he is himself."""
    if role == ADMIN:
        return actor.is_admin
    if role == OWNER:
        return actor.is_admin or (
            organization_id is not None and is_owner_of(actor, organization_id)
        )
    return True


def can_change(actor: Actor, user: User) -> bool:
    """Nobody changes an administrator but one, nor an owner but one of that organization."""
    return can_give_role(actor, user.role, user.organization_id)


def holds(actor: Actor, permission: str, organization_id: int) -> bool:
    """Say whether the actor holds what he is about to grant; `all` is held by holding all."""
    if is_owner_of(actor, organization_id):
        return True
    return actor.organization_id == organization_id and bool({permission, ALL} & actor.permissions)
