"""Who may reach what: 404 for strangers, 403 for members without the permission."""

from services.organizations import policies
from services.organizations.errors import OrganizationNotFound
from shared.actors import Actor
from shared.errors import Forbidden


def require_admin(actor: Actor) -> None:
    """Raise Forbidden for everyone except administrators of the system."""
    if not actor.is_admin:
        raise Forbidden("Only administrators of the system may do this.")


def require_member(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for an actor who may not see the organization."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound


def require_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not change it."""
    require_member(actor, organization_id)
    actor.require(policies.MANAGE_ORGANIZATION, organization_id)
