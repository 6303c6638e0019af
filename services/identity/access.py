"""Who may reach what: 404 for strangers, 403 for members without the permission."""

from services.identity import policies
from services.identity.errors import OrganizationNotFound
from shared.actors import Actor
from shared.errors import Forbidden


def require_admin(actor: Actor) -> None:
    """Raise Forbidden for everyone except administrators of the system."""
    if not actor.is_admin:
        raise Forbidden("Only administrators of the system may do this.")


def require_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers and Forbidden for members who may not manage users.

    It does not check whether the organization exists.
    """
    _require_member(actor, organization_id)
    actor.require(policies.MANAGE_USERS, organization_id)


def require_owner(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers and Forbidden for members who do not own it.

    It does not check whether the organization exists.
    """
    _require_member(actor, organization_id)
    if not policies.is_owner_of(actor, organization_id):
        raise Forbidden("Only the organization's owners may do this.")


def require_role(actor: Actor, role: str, organization_id: int | None) -> None:
    """Raise Forbidden when the actor may not give a role in the organization.

    Raises ReauthenticationRequired for a new owner or administrator after an old sign-in.
    """
    if not policies.can_give_role(actor, role, organization_id):
        raise Forbidden(f"The role {role} brings rights that you do not hold.")
    if policies.needs_recent_sign_in(role):
        actor.require_recent_sign_in()


def _require_member(actor: Actor, organization_id: int) -> None:
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
