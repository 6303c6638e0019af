"""Who may do what: pure functions of the actor and the user that the action is about.

An actor who manages users may create, change, approve, deactivate and remove users who have no
right that the actor does not have, and may give roles under the same condition. A right may come
from the role, from a granted permission, or from a permission that includes another.
"""

from collections.abc import Collection, Mapping

from services.identity.models import PERMISSIONS, THERAPIST, User
from shared.actors import ADMIN, ALL, OWNER, Actor

MANAGE_USERS = "manage_users"

Rights = frozenset[str]
"""What a user can do in an organization: permissions, and what only a role allows."""

REDEEM = "redeem"
OWN_ORGANIZATION = "own the organization"
ADMINISTER_SYSTEM = "administer the system"

_ALL_RIGHTS: Rights = frozenset({*PERMISSIONS, REDEEM})
_RIGHTS_OF_ROLES: Mapping[str, Rights] = {
    ADMIN: _ALL_RIGHTS | {OWN_ORGANIZATION, ADMINISTER_SYSTEM},
    OWNER: _ALL_RIGHTS | {OWN_ORGANIZATION},
    THERAPIST: frozenset({REDEEM}),
}
_INCLUDED_RIGHTS: Mapping[str, Rights] = {
    ALL: _ALL_RIGHTS,
    # As in the policies of the services that enforce these permissions.
    "manage_vouchers": frozenset({REDEEM}),
    "manage_payments": frozenset({"view_payments"}),
}


def rights(role: str, permissions: Collection[str] = ()) -> Rights:
    """Return the rights that a role and granted permissions give a user."""
    included_rights = (_INCLUDED_RIGHTS.get(permission, frozenset()) for permission in permissions)
    return _RIGHTS_OF_ROLES.get(role, frozenset()).union(permissions, *included_rights)


def rights_of(actor: Actor, organization_id: int | None) -> Rights:
    """Return the actor's rights in an organization. An administrator has every right."""
    if actor.is_admin:
        return rights(ADMIN)
    if organization_id is None or actor.organization_id != organization_id:
        return frozenset()
    return rights(actor.role, actor.permissions)


def must_have_second_factor(role: str) -> bool:
    """Administrators of the system must have a second factor, unless a setting says otherwise."""
    return role == ADMIN


def needs_recent_sign_in(role: str) -> bool:
    """Naming an owner or an administrator needs a recent sign-in of the actor."""
    return role in (ADMIN, OWNER)


def can_reset_second_factor(actor: Actor, user: User) -> bool:
    """Only administrators may reset the second factor of an owner or an administrator."""
    return actor.is_admin or user.role not in (ADMIN, OWNER)


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id


def is_owner_of(actor: Actor, organization_id: int) -> bool:
    """An owner owns the own organization. An administrator acts as owner of every one."""
    return OWN_ORGANIZATION in rights_of(actor, organization_id)


def can_give_role(actor: Actor, role: str, organization_id: int | None) -> bool:
    """An actor may give a role when the actor has every right that the role brings."""
    return rights(role) <= rights_of(actor, organization_id)


def can_change(actor: Actor, user: User, permissions: Collection[str]) -> bool:
    """An actor may change a user when the actor has every right that the user has.

    Users may always change themselves. `permissions` are those that the user was granted.
    """
    if user.id == actor.user_id:
        return True
    return rights(user.role, permissions) <= rights_of(actor, user.organization_id)


def can_grant(actor: Actor, permission: str, organization_id: int) -> bool:
    """An actor may grant a permission when the actor has every right that it includes."""
    return rights("", (permission,)) <= rights_of(actor, organization_id)
