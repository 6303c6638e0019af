"""Who may do what: pure functions of the actor and the user it is about.

Whoever manages users may create, change, approve, deactivate and remove those who hold no more
than the manager does, and give roles that bring no more. What counts is what somebody can do,
wherever it comes from: the role, a granted permission, or a permission that includes another.
"""

from collections.abc import Collection, Mapping

from services.identity.models import PERMISSIONS, THERAPIST, User
from shared.actors import ADMIN, ALL, OWNER, Actor

MANAGE_USERS = "manage_users"

Rights = frozenset[str]
"""What somebody can do in an organization: permissions, and what only a role brings."""

REDEEM = "redeem"
OWN_ORGANIZATION = "own the organization"
ADMINISTER_SYSTEM = "administer the system"

_OF_ALL: Rights = frozenset({*PERMISSIONS, REDEEM})
_OF_ROLES: Mapping[str, Rights] = {
    ADMIN: _OF_ALL | {OWN_ORGANIZATION, ADMINISTER_SYSTEM},
    OWNER: _OF_ALL | {OWN_ORGANIZATION},
    THERAPIST: frozenset({REDEEM}),
}
_INCLUDED: Mapping[str, Rights] = {
    ALL: _OF_ALL,
    # As the services that enforce them read them (see their policies).
    "manage_vouchers": frozenset({REDEEM}),
    "manage_payments": frozenset({"view_payments"}),
}


def rights(role: str, permissions: Collection[str] = ()) -> Rights:
    """Return everything that a role and granted permissions let somebody do."""
    included = (_INCLUDED.get(permission, frozenset()) for permission in permissions)
    return _OF_ROLES.get(role, frozenset()).union(permissions, *included)


def rights_of(actor: Actor, organization_id: int | None) -> Rights:
    """Return what the actor can do in an organization; an administrator can do everything."""
    if actor.is_admin:
        return rights(ADMIN)
    if organization_id is None or actor.organization_id != organization_id:
        return frozenset()
    return rights(actor.role, actor.permissions)


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members see their organization, administrators every one."""
    return actor.is_admin or actor.organization_id == organization_id


def is_owner_of(actor: Actor, organization_id: int) -> bool:
    """Say whether the actor owns the organization, which an administrator does everywhere."""
    return OWN_ORGANIZATION in rights_of(actor, organization_id)


def can_give_role(actor: Actor, role: str, organization_id: int | None) -> bool:
    """Nobody gives a role that brings more than the giver holds."""
    return rights(role) <= rights_of(actor, organization_id)


def can_change(actor: Actor, user: User, permissions: Collection[str]) -> bool:
    """Nobody changes a user who holds more; `permissions` are those that the user was granted."""
    if user.id == actor.user_id:
        return True
    return rights(user.role, permissions) <= rights_of(actor, user.organization_id)


def can_grant(actor: Actor, permission: str, organization_id: int) -> bool:
    """Nobody grants a permission that includes more than the giver holds."""
    granted = rights("", (permission,))
    return granted <= rights_of(actor, organization_id)
